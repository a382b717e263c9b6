/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "clustercache.h"

#include "qcow2_map.h"
#include "unpack.h"

#define MAX_BYTES (4 * 1024 * 1024)

typedef struct {
    const DiskImage *image;
    guint64 at;
    GBytes *bytes; /* NULL: being unpacked */
    GList link;
} Cluster;

struct ClusterCache {
    GMutex lock;
    GCond unpacked;
    GQueue used; /* of Cluster, the last used first: few, so they are searched one by one */
    gsize bytes;
};

ClusterCache *cluster_cache_new(void)
{
    ClusterCache *cache = g_new0(ClusterCache, 1);
    g_mutex_init(&cache->lock);
    g_cond_init(&cache->unpacked);
    return cache;
}

static void drop(ClusterCache *cache, Cluster *cluster)
{
    g_queue_unlink(&cache->used, &cluster->link);
    if (cluster->bytes) {
        cache->bytes -= g_bytes_get_size(cluster->bytes);
        g_bytes_unref(cluster->bytes);
    }
    g_free(cluster);
}

void cluster_cache_free(ClusterCache *cache)
{
    if (!cache)
        return;
    while (cache->used.head)
        drop(cache, cache->used.head->data);
    g_mutex_clear(&cache->lock);
    g_cond_clear(&cache->unpacked);
    g_free(cache);
}

static Cluster *find(ClusterCache *cache, const DiskImage *image, guint64 at)
{
    for (GList *link = cache->used.head; link; link = link->next) {
        Cluster *cluster = link->data;
        if (cluster->image == image && cluster->at == at)
            return cluster;
    }
    return NULL;
}

static GBytes *unpack(const DiskImage *image, guint64 at, GError **error)
{
    guint64 offset, length;
    gsize got, size = qcow2_cluster_size(&image->layout);
    qcow2_compressed(&image->layout, at, &offset, &length);
    g_autofree char *packed = g_malloc(length);
    g_autofree char *plain = g_malloc(size);
    if (!image_file_read_some(image->file, offset, packed, length, &got, error))
        return NULL;
    if (!(image->layout.zstd ? unpack_zstd : unpack_deflate)(packed, got, plain, size)) {
        image_file_damaged(image->file, error,
                           "the compressed cluster at %" G_GUINT64_FORMAT
                           " does not unpack to %" G_GSIZE_FORMAT " bytes",
                           offset, size);
        return NULL;
    }
    return g_bytes_new_take(g_steal_pointer(&plain), size);
}

/* Room for @more bytes: those being unpacked stay, and readers keep what they have got. Under the lock. */
static void make_room(ClusterCache *cache, gsize more)
{
    for (GList *link = cache->used.tail; link && cache->bytes + more > MAX_BYTES;) {
        Cluster *cluster = link->data;
        link = link->prev;
        if (cluster->bytes)
            drop(cache, cluster);
    }
}

/* The cluster, unpacked by another thread or not there. Under the lock, which is given up meanwhile. */
static Cluster *wait_for(ClusterCache *cache, const DiskImage *image, guint64 at)
{
    Cluster *cluster = find(cache, image, at);
    while (cluster && !cluster->bytes) {
        g_cond_wait(&cache->unpacked, &cache->lock);
        cluster = find(cache, image, at);
    }
    return cluster;
}

GBytes *cluster_cache_get(ClusterCache *cache, const DiskImage *image, guint64 at, GError **error)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&cache->lock);
    Cluster *cluster = wait_for(cache, image, at);
    if (cluster) {
        g_queue_unlink(&cache->used, &cluster->link);
        g_queue_push_head_link(&cache->used, &cluster->link);
        return g_bytes_ref(cluster->bytes);
    }
    cluster = g_new0(Cluster, 1);
    cluster->image = image;
    cluster->at = at;
    cluster->link.data = cluster;
    g_queue_push_head_link(&cache->used, &cluster->link);

    g_mutex_unlock(&cache->lock);
    GBytes *bytes = unpack(image, at, error);
    g_mutex_lock(&cache->lock);
    g_cond_broadcast(&cache->unpacked);
    if (!bytes) {
        drop(cache, cluster);
        return NULL;
    }
    make_room(cache, g_bytes_get_size(bytes));
    cluster->bytes = g_bytes_ref(bytes);
    cache->bytes += g_bytes_get_size(bytes);
    return bytes;
}
