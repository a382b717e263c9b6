/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads a file twice and prints how fast each time: MiB/s of blocks of 1 MiB from the first to the last (seq), or 4 KiB reads
 * a second at random places (rand), by PROCS processes at once, COUNT reads each. Before the first time the file's own pages
 * are dropped from the page cache, unless it is to stay warm; the second time reads the same.
 *
 *     readloop FILE seq|rand PROCS COUNT cold|warm
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define LONG_BLOCK (1024 * 1024)

typedef struct {
    int fd;
    int random;
    long count; /* reads */
    off_t size;
} Job;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void read_all(const Job *job, uint64_t seed)
{
    size_t block = job->random ? BLOCK : LONG_BLOCK;
    uint64_t blocks = (uint64_t)job->size / block;
    char *buffer = aligned_alloc(BLOCK, block);
    for (long i = 0; i < job->count; i++) {
        uint64_t at = (job->random ? next_random(&seed) : (uint64_t)i) % blocks;
        if (pread(job->fd, buffer, block, (off_t)(at * block)) != (ssize_t)block)
            die("read");
    }
    free(buffer);
}

/* Seconds that @procs processes took, from the first one's beginning to the last one's end. */
static double pass(const Job *job, int procs)
{
    double start = now();
    for (int i = 0; i < procs; i++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            read_all(job, 0x9e3779b97f4a7c15u * (uint64_t)(i + 1));
            _exit(0);
        }
    }
    for (int i = 0, status; i < procs; i++)
        if (wait(&status) < 0 || status != 0)
            exit(1);
    return now() - start;
}

int main(int argc, char **argv)
{
    struct stat st;
    if (argc != 6)
        return 2;
    int procs = atoi(argv[3]);
    Job job = {.fd = open(argv[1], O_RDONLY | O_CLOEXEC),
               .random = strcmp(argv[2], "rand") == 0,
               .count = atol(argv[4])};
    if (job.fd < 0 || fstat(job.fd, &st) < 0)
        die(argv[1]);
    job.size = st.st_size;
    if (!job.random)
        job.count = (long)(job.size / LONG_BLOCK);
    if (strcmp(argv[5], "cold") == 0 && posix_fadvise(job.fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        die("drop");
    double first = pass(&job, procs), second = pass(&job, procs);
    double amount = (double)job.count * procs;
    printf("%.1f %.1f\n", amount / first, amount / second);
    return 0;
}
