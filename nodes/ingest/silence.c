#include "nodes/ingest/silence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/list.h"
#include "views/lifecycle.h"

#define BUCKETS 256
#define MS_NS   UINT64_C(1000000)

struct sign {
    struct list link;
    char channel[LIFECYCLE_CHANNEL_MAX + 1];
    int64_t epoch, end_us;
    uint64_t since_ns, round;
};

struct silence {
    struct list buckets[BUCKETS];
    uint64_t now_ns, round;
};

int silence_new(struct silence **ret_silence)
{
    struct silence *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return WEIR_ENOMEM;
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        list_init(&s->buckets[i]);
    }
    *ret_silence = s;
    return 0;
}

/* Those that the last round did not ask about; of the others, `asleep_ns` do not count. */
static void tidy_up(struct silence *s, uint64_t asleep_ns)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        LIST_FOREACH_SAFE(it, next, &s->buckets[i])
        {
            struct sign *sign = list_entry(it, struct sign, link);
            sign->since_ns += asleep_ns;
            if (sign->round != s->round) {
                list_remove(&sign->link);
                free(sign);
            }
        }
    }
}

void silence_free(struct silence *s)
{
    if (s != NULL) {
        s->round++;
        tidy_up(s, 0);
        free(s);
    }
}

void silence_round(struct silence *s, uint64_t now_ns)
{
    uint64_t gap_ns = s->round > 0 ? now_ns - s->now_ns : 0;
    tidy_up(s, gap_ns > SILENCE_ROUND_MS_MAX * MS_NS ? gap_ns : 0);
    s->now_ns = now_ns;
    s->round++;
}

static struct list *bucket_of(struct silence *s, const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name != 0; name++) {
        h = (h ^ (uint8_t)*name) * 16777619u;
    }
    return &s->buckets[h % BUCKETS];
}

static struct sign *sign_of(struct silence *s, const char *channel)
{
    struct list *bucket = bucket_of(s, channel);
    LIST_FOREACH(it, bucket)
    {
        struct sign *sign = list_entry(it, struct sign, link);
        if (strcmp(sign->channel, channel) == 0) {
            return sign;
        }
    }
    struct sign *sign = calloc(1, sizeof(*sign));
    if (sign != NULL) {
        (void)snprintf(sign->channel, sizeof(sign->channel), "%s", channel);
        sign->epoch = LIFECYCLE_NO_EPOCH;
        list_push_back(bucket, &sign->link);
    }
    return sign;
}

uint64_t silence_ms(struct silence *s, const char *channel, int64_t epoch, int64_t end_us)
{
    struct sign *sign = sign_of(s, channel);
    if (sign == NULL) {
        return 0;
    }
    sign->round = s->round;
    if (sign->epoch != epoch || sign->end_us != end_us) {
        sign->epoch = epoch;
        sign->end_us = end_us;
        sign->since_ns = s->now_ns;
    }
    return (s->now_ns - sign->since_ns) / MS_NS;
}
