/* What the records of one partition of topic `groups` fold to (proto/groups.proto): the committed
 * offsets of consumer groups and the named producers. The newest record of a key counts.
 *
 * Bounded by what the coordinator lets into the log (the limits below): the fold itself takes
 * everything that is there. Loop thread only. */
#ifndef NODES_BROKER_GROUP_VIEW_H
#define NODES_BROKER_GROUP_VIEW_H

#include "base/bytes.h"
#include "base/config.h"
#include "base/list.h"
#include "log/batch.h"
#include "proto/broker.pb-c.h"

#define GROUP_NAME_MAX         63     /* bytes of [A-Za-z0-9._-] */
#define GROUP_VIEW_GROUPS_MAX  4096   /* of one partition of `groups` */
#define GROUP_VIEW_OFFSETS_MAX 262144 /* of one partition of `groups` */
#define GROUP_VIEW_BUCKETS     256
#define GROUP_PARTITIONS_MAX   65536 /* what a record may name */

struct view_offset {
    int64_t offset; /* -1: none */
    uint64_t generation;
    int64_t time_ms; /* append time */
};

struct view_topic {
    struct list link;
    char name[CONFIG_NAME_MAX];
    uint32_t n_partitions; /* length of offsets[] */
    struct view_offset *offsets;
};

struct view_group {
    struct list link;
    char name[GROUP_NAME_MAX + 1];
    struct list topics; /* struct view_topic.link, in order of appearance */
    uint32_t n_offsets; /* committed ones */
    /* Of those: what was deleted or overwritten does not count, for a compacted log has it not. */
    int64_t committed_ms;
    uint64_t generation_max;
};

struct view_producer {
    struct list link;
    char name[GROUP_NAME_MAX + 1];
    int64_t id;
    uint32_t epoch;
    uint64_t owner; /* whose epoch it is; 0: not known */
};

struct group_view {
    struct list groups[GROUP_VIEW_BUCKETS]; /* struct view_group.link */
    struct list producers[GROUP_VIEW_BUCKETS];
    uint32_t n_groups, n_offsets, n_producers;
    uint64_t n_ignored; /* records that are none of ours */
};

void group_view_init(struct group_view *v);
void group_view_close(struct group_view *v);
/* Folds one record in. What is not a record of the topic is counted and ignored. WEIR_ENOMEM:
 * nothing changed. */
int group_view_apply(struct group_view *v, const struct batch_record *r);

struct view_group *group_view_find(struct group_view *v, const char *group); /* or NULL */
/* -1: none is committed. */
int64_t group_view_offset(struct group_view *v, const char *group, const char *topic,
                          uint32_t partition);
/* In which the offset was committed; 0: none is, or an operator set it. */
uint64_t group_view_generation(struct group_view *v, const char *group, const char *topic,
                               uint32_t partition);
/* Is there room for what a commit adds? What is there already may always move on, or go. `m` is
 * sound: as many offsets as partitions. WEIR_EBUSY. */
int group_view_room(struct group_view *v, const Weir__BrokerGroupCommit *m, struct error *why);
const struct view_producer *group_view_producer(struct group_view *v, const char *name);

/* 1..GROUP_NAME_MAX bytes of letters, digits, '.', '_' and '-'. */
bool group_name_valid(const char *name);
/* Adds the record of a commit to a batch; offset -1 makes it a tombstone. Errors stick in the
 * builder's buffer. */
void group_put_offset(struct batch_builder *b, int64_t now_ms, const char *group, const char *topic,
                      uint32_t partition, int64_t offset, uint64_t generation);
/* Same for a named producer. */
void group_put_producer(struct batch_builder *b, int64_t now_ms,
                        const struct view_producer *producer);

#endif
