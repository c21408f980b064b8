#include "nodes/broker/group_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "proto/groups.pb-c.h"
#include "proto/messages.h"

#define KEY_MAX 192

bool group_name_valid(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= GROUP_NAME_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static uint32_t bucket_of(const char *name)
{
    return crc32c(0, name, strlen(name)) % GROUP_VIEW_BUCKETS;
}

void group_view_init(struct group_view *v)
{
    memset(v, 0, sizeof(*v));
    for (unsigned i = 0; i < GROUP_VIEW_BUCKETS; i++) {
        list_init(&v->groups[i]);
        list_init(&v->producers[i]);
    }
}

static void group_free(struct group_view *v, struct view_group *g)
{
    for (struct list *el = list_pop(&g->topics); el != NULL; el = list_pop(&g->topics)) {
        struct view_topic *t = list_entry(el, struct view_topic, link);
        free(t->offsets);
        free(t);
    }
    list_remove(&g->link);
    v->n_groups--;
    free(g);
}

void group_view_close(struct group_view *v)
{
    for (unsigned i = 0; i < GROUP_VIEW_BUCKETS; i++) {
        while (!list_empty(&v->groups[i])) {
            group_free(v, list_entry(v->groups[i].next, struct view_group, link));
        }
        for (struct list *el = list_pop(&v->producers[i]); el != NULL;
             el = list_pop(&v->producers[i])) {
            free(list_entry(el, struct view_producer, link));
        }
    }
    group_view_init(v);
}

/* --- Looking --- */

struct view_group *group_view_find(struct group_view *v, const char *group)
{
    LIST_FOREACH(it, &v->groups[bucket_of(group)])
    {
        struct view_group *g = list_entry(it, struct view_group, link);
        if (strcmp(g->name, group) == 0) {
            return g;
        }
    }
    return NULL;
}

static struct view_topic *topic_find(struct view_group *g, const char *name)
{
    LIST_FOREACH(it, &g->topics)
    {
        struct view_topic *t = list_entry(it, struct view_topic, link);
        if (strcmp(t->name, name) == 0) {
            return t;
        }
    }
    return NULL;
}

static struct view_offset offset_find(struct group_view *v, const char *group, const char *topic,
                                      uint32_t partition)
{
    struct view_group *g = group_view_find(v, group);
    struct view_topic *t = g != NULL ? topic_find(g, topic) : NULL;
    return t != NULL && partition < t->n_partitions ? t->offsets[partition]
                                                    : (struct view_offset){.offset = -1};
}

int64_t group_view_offset(struct group_view *v, const char *group, const char *topic,
                          uint32_t partition)
{
    return offset_find(v, group, topic, partition).offset;
}

uint64_t group_view_generation(struct group_view *v, const char *group, const char *topic,
                               uint32_t partition)
{
    struct view_offset o = offset_find(v, group, topic, partition);
    return o.offset >= 0 ? o.generation : 0;
}

static struct view_producer *producer_find(struct group_view *v, const char *name)
{
    LIST_FOREACH(it, &v->producers[bucket_of(name)])
    {
        struct view_producer *p = list_entry(it, struct view_producer, link);
        if (strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

const struct view_producer *group_view_producer(struct group_view *v, const char *name)
{
    return producer_find(v, name);
}

int group_view_room(struct group_view *v, const Weir__BrokerGroupCommit *m, struct error *why)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_offsets; i++) {
        const Weir__BrokerGroupTopic *t = m->offsets[i];
        for (size_t k = 0; k < t->n_partitions; k++) {
            n += t->offsets[k] >= 0 &&
                 group_view_offset(v, m->group, t->topic, t->partitions[k]) < 0;
        }
    }
    if (n > 0 && v->n_offsets + n > GROUP_VIEW_OFFSETS_MAX) {
        return error_set(why, WEIR_EBUSY, "too many offsets are committed");
    }
    if (n > 0 && v->n_groups >= GROUP_VIEW_GROUPS_MAX && group_view_find(v, m->group) == NULL) {
        return error_set(why, WEIR_EBUSY, "too many groups have offsets");
    }
    return 0;
}

/* --- Folding --- */

static struct view_group *group_make(struct group_view *v, const char *name)
{
    struct view_group *g = group_view_find(v, name);
    if (g != NULL) {
        return g;
    }
    g = calloc(1, sizeof(*g));
    if (g != NULL) {
        (void)snprintf(g->name, sizeof(g->name), "%s", name);
        list_init(&g->topics);
        list_push_back(&v->groups[bucket_of(name)], &g->link);
        v->n_groups++;
    }
    return g;
}

static struct view_topic *topic_make(struct view_group *g, const char *name, uint32_t partition)
{
    struct view_topic *t = topic_find(g, name);
    if (t == NULL) {
        t = calloc(1, sizeof(*t));
        if (t == NULL) {
            return NULL;
        }
        (void)snprintf(t->name, sizeof(t->name), "%s", name);
        list_push_back(&g->topics, &t->link);
    }
    if (partition >= t->n_partitions) {
        uint32_t n = partition + 1 > 2 * t->n_partitions ? partition + 1 : 2 * t->n_partitions;
        struct view_offset *offsets = realloc(t->offsets, n * sizeof(*offsets));
        if (offsets == NULL) {
            return NULL;
        }
        for (uint32_t i = t->n_partitions; i < n; i++) {
            offsets[i] = (struct view_offset){.offset = -1};
        }
        t->offsets = offsets;
        t->n_partitions = n;
    }
    return t;
}

static void drop_if_empty(struct group_view *v, struct view_group *g)
{
    if (g->n_offsets == 0) {
        group_free(v, g);
    }
}

/* One that may have been the newest is not there any more. */
static void count_anew(struct view_group *g)
{
    g->committed_ms = 0;
    g->generation_max = 0;
    LIST_FOREACH(it, &g->topics)
    {
        const struct view_topic *t = list_entry(it, struct view_topic, link);
        for (uint32_t i = 0; i < t->n_partitions; i++) {
            const struct view_offset *o = &t->offsets[i];
            if (o->offset >= 0) {
                g->committed_ms = o->time_ms > g->committed_ms ? o->time_ms : g->committed_ms;
                g->generation_max =
                    o->generation > g->generation_max ? o->generation : g->generation_max;
            }
        }
    }
}

static bool was_newest(const struct view_group *g, const struct view_offset *o)
{
    return o->offset >= 0 && (o->time_ms == g->committed_ms || o->generation == g->generation_max);
}

static int put_offset(struct group_view *v, const Weir__GroupOffset *m, int64_t time_ms)
{
    struct view_group *g = group_make(v, m->group);
    struct view_topic *t = g != NULL ? topic_make(g, m->topic, m->partition) : NULL;
    if (t == NULL) {
        if (g != NULL) {
            drop_if_empty(v, g);
        }
        return WEIR_ENOMEM;
    }
    struct view_offset *o = &t->offsets[m->partition];
    struct view_offset was = *o;
    g->n_offsets += o->offset < 0;
    v->n_offsets += o->offset < 0;
    *o = (struct view_offset){.offset = m->offset, .generation = m->generation, .time_ms = time_ms};
    g->committed_ms = time_ms > g->committed_ms ? time_ms : g->committed_ms;
    g->generation_max = m->generation > g->generation_max ? m->generation : g->generation_max;
    if (was_newest(g, &was) && (time_ms < was.time_ms || m->generation < was.generation)) {
        count_anew(g);
    }
    return 0;
}

/* offset/GROUP/TOPIC/PARTITION; `key` is taken apart. */
static void remove_offset(struct group_view *v, char *key)
{
    char *topic = strchr(key, '/');
    char *partition = topic != NULL ? strchr(topic + 1, '/') : NULL;
    if (partition == NULL) {
        v->n_ignored++;
        return;
    }
    *topic++ = '\0';
    *partition++ = '\0';
    unsigned long k = strtoul(partition, NULL, 10);
    struct view_group *g = group_view_find(v, key);
    struct view_topic *t = g != NULL ? topic_find(g, topic) : NULL;
    if (t == NULL || k >= t->n_partitions || t->offsets[k].offset < 0) {
        return;
    }
    struct view_offset was = t->offsets[k];
    t->offsets[k].offset = -1;
    g->n_offsets--;
    v->n_offsets--;
    if (g->n_offsets > 0 && was_newest(g, &was)) {
        count_anew(g);
    }
    drop_if_empty(v, g);
}

static int put_producer(struct group_view *v, const Weir__NamedProducer *m)
{
    struct view_producer *p = producer_find(v, m->name);
    if (p == NULL) {
        p = calloc(1, sizeof(*p));
        if (p == NULL) {
            return WEIR_ENOMEM;
        }
        (void)snprintf(p->name, sizeof(p->name), "%s", m->name);
        list_push_back(&v->producers[bucket_of(m->name)], &p->link);
        v->n_producers++;
    }
    p->id = m->id;
    p->epoch = m->epoch;
    p->owner = m->owner;
    return 0;
}

static void remove_producer(struct group_view *v, const char *name)
{
    struct view_producer *p = producer_find(v, name);
    if (p != NULL) {
        list_remove(&p->link);
        v->n_producers--;
        free(p);
    }
}

static void apply_tombstone(struct group_view *v, const struct batch_record *r)
{
    static const char offset[] = "offset/", producer[] = "producer/";
    char key[KEY_MAX];
    if (r->key == NULL || r->key_len <= 0 || (size_t)r->key_len >= sizeof(key)) {
        v->n_ignored++;
        return;
    }
    memcpy(key, r->key, (size_t)r->key_len);
    key[r->key_len] = '\0';
    if (strncmp(key, offset, sizeof(offset) - 1) == 0) {
        remove_offset(v, key + sizeof(offset) - 1);
    } else if (strncmp(key, producer, sizeof(producer) - 1) == 0) {
        remove_producer(v, key + sizeof(producer) - 1);
    } else {
        v->n_ignored++;
    }
}

static bool offset_good(const Weir__GroupOffset *m)
{
    return group_name_valid(m->group) && m->topic[0] != '\0' &&
           strlen(m->topic) < CONFIG_NAME_MAX && m->partition < GROUP_PARTITIONS_MAX &&
           m->offset >= 0;
}

int group_view_apply(struct group_view *v, const struct batch_record *r)
{
    if (r->value == NULL) {
        apply_tombstone(v, r);
        return 0;
    }
    Weir__GroupsRecord *m = weir__groups_record__unpack(NULL, (size_t)r->value_len, r->value);
    int rv = 0;
    if (m != NULL && m->body_case == WEIR__GROUPS_RECORD__BODY_OFFSET && offset_good(m->offset)) {
        rv = put_offset(v, m->offset, r->timestamp_ms);
    } else if (m != NULL && m->body_case == WEIR__GROUPS_RECORD__BODY_PRODUCER &&
               group_name_valid(m->producer->name)) {
        rv = put_producer(v, m->producer);
    } else {
        v->n_ignored++;
    }
    if (m != NULL) {
        weir__groups_record__free_unpacked(m, NULL);
    }
    return rv;
}

/* --- Writing --- */

/* protobuf-c's structs want char *; what is packed is only read. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

void group_put_offset(struct batch_builder *b, int64_t now_ms, const char *group, const char *topic,
                      uint32_t partition, int64_t offset, uint64_t generation)
{
    char key[KEY_MAX];
    uint8_t value[2 * KEY_MAX];
    Weir__GroupOffset o = WEIR__GROUP_OFFSET__INIT;
    Weir__GroupsRecord m = WEIR__GROUPS_RECORD__INIT;
    int n = snprintf(key, sizeof(key), "offset/%s/%s/%u", group, topic, partition);
    if (offset < 0) {
        batch_add(b, now_ms, key, (size_t)n, NULL, 0);
        return;
    }
    o.group = text(group);
    o.topic = text(topic);
    o.partition = partition;
    o.offset = offset;
    o.generation = generation;
    m.body_case = WEIR__GROUPS_RECORD__BODY_OFFSET;
    m.offset = &o;
    batch_add(b, now_ms, key, (size_t)n, value, weir__groups_record__pack(&m, value));
}

void group_put_producer(struct batch_builder *b, int64_t now_ms,
                        const struct view_producer *producer)
{
    char key[KEY_MAX];
    uint8_t value[2 * KEY_MAX];
    Weir__NamedProducer p = WEIR__NAMED_PRODUCER__INIT;
    Weir__GroupsRecord m = WEIR__GROUPS_RECORD__INIT;
    int n = snprintf(key, sizeof(key), "producer/%s", producer->name);
    p.name = text(producer->name);
    p.id = producer->id;
    p.epoch = producer->epoch;
    p.owner = producer->owner;
    m.body_case = WEIR__GROUPS_RECORD__BODY_PRODUCER;
    m.producer = &p;
    batch_add(b, now_ms, key, (size_t)n, value, weir__groups_record__pack(&m, value));
}
