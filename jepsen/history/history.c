#include "jepsen/history/history.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct history {
    FILE *file;
    pthread_mutex_t lock;
    uint64_t began_ns, index;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

struct history *history_open(const char *path)
{
    struct history *h = calloc(1, sizeof(*h));
    if (h == NULL) {
        return NULL;
    }
    h->file = fopen(path, "wxe");
    if (h->file == NULL) {
        free(h);
        return NULL;
    }
    (void)pthread_mutex_init(&h->lock, NULL);
    h->began_ns = now_ns();
    return h;
}

uint64_t history_now_ns(const struct history *h)
{
    return now_ns() - h->began_ns;
}

/* The lock makes the order of the lines that of their times. */
void history_put(struct history *h, enum history_type type, int64_t process, const char *f,
                 const char *value, const char *error)
{
    static const char *const types[] = {"invoke", "ok", "fail", "info"};
    (void)pthread_mutex_lock(&h->lock);
    (void)fprintf(h->file, "{:index %llu, :time %llu, :type :%s, :process ",
                  (unsigned long long)h->index++, (unsigned long long)history_now_ns(h),
                  types[type]);
    if (process == HISTORY_NEMESIS) {
        (void)fputs(":nemesis", h->file);
    } else {
        (void)fprintf(h->file, "%lld", (long long)process);
    }
    (void)fprintf(h->file, ", :f :%s, :value %s", f, value);
    if (error != NULL) {
        (void)fprintf(h->file, ", :error %s", error);
    }
    (void)fputs("}\n", h->file);
    (void)pthread_mutex_unlock(&h->lock);
}

int history_close(struct history *h)
{
    int failed = ferror(h->file);
    failed |= fclose(h->file);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
    return failed != 0 ? -1 : 0;
}
