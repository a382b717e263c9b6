/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For builds with ThreadSanitizer only: GLib's locks are made of futexes that TSan does not see, so everything they
 * order looks like a race. These wrappers, linked into the program, tell it what a lock, a condition, a queue and a thread
 * pool order, and call GLib's own functions.
 */
#include <dlfcn.h>
#include <glib.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

#define REAL(name) (__extension__(__typeof__(&name)) dlsym(RTLD_NEXT, #name))

void g_mutex_lock(GMutex *mutex)
{
    REAL(g_mutex_lock)(mutex);
    __tsan_acquire(mutex);
}

void g_mutex_unlock(GMutex *mutex)
{
    __tsan_release(mutex);
    REAL(g_mutex_unlock)(mutex);
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
    __tsan_release(mutex);
    REAL(g_cond_wait)(cond, mutex);
    __tsan_acquire(mutex);
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end)
{
    __tsan_release(mutex);
    gboolean signalled = REAL(g_cond_wait_until)(cond, mutex, end);
    __tsan_acquire(mutex);
    return signalled;
}

/* What a pool's function needs; never freed: pools live as long as the program. */
typedef struct {
    GFunc func;
    gpointer user;
} Pool;

static void run(gpointer data, gpointer pool)
{
    __tsan_acquire(data);
    __tsan_acquire(pool);
    ((Pool *)pool)->func(data, ((Pool *)pool)->user);
    __tsan_release(pool);
}

GThreadPool *g_thread_pool_new(GFunc func, gpointer user, gint max_threads, gboolean exclusive,
                               GError **error)
{
    static Pool pools[8];
    static gint used;
    Pool *pool = &pools[g_atomic_int_add(&used, 1)];
    *pool = (Pool){func, user};
    __tsan_release(pool);
    return REAL(g_thread_pool_new)(run, pool, max_threads, exclusive, error);
}

gboolean g_thread_pool_push(GThreadPool *pool, gpointer data, GError **error)
{
    __tsan_release(data);
    return REAL(g_thread_pool_push)(pool, data, error);
}

void g_thread_pool_free(GThreadPool *pool, gboolean immediate, gboolean wait)
{
    gpointer waited_for = wait ? pool->user_data : NULL;
    REAL(g_thread_pool_free)(pool, immediate, wait);
    if (waited_for != NULL)
        __tsan_acquire(waited_for);
}

void g_async_queue_push(GAsyncQueue *queue, gpointer data)
{
    __tsan_release(data);
    REAL(g_async_queue_push)(queue, data);
}

gpointer g_async_queue_try_pop(GAsyncQueue *queue)
{
    gpointer data = REAL(g_async_queue_try_pop)(queue);
    if (data != NULL)
        __tsan_acquire(data);
    return data;
}
