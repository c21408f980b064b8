/* weir log groups GROUP --set, --delete: a commit without a member, which the coordinator takes
 * only while the group has none. What is set lies between the partition's begin and its end. */
#include <stdlib.h>
#include <string.h>

#include "clients/cli/log_groups.h"

#define RETRY_MS 200

struct change {
    char topic[CONFIG_NAME_MAX];
    uint32_t partition;
    int64_t before, after; /* -1: none */
};

struct changes {
    struct change *all;
    size_t n, cap;
};

/* --- Arguments --- */

static bool parse_where(const char *text, struct group_setting *s)
{
    static const char time[] = "time:";
    uint64_t offset = 0;
    if (strcmp(text, "begin") == 0) {
        s->where = GROUP_AT_BEGIN;
    } else if (strcmp(text, "end") == 0) {
        s->where = GROUP_AT_END;
    } else if (strncmp(text, time, sizeof(time) - 1) == 0) {
        s->where = GROUP_AT_TIME;
        return cli_parse_time(text + sizeof(time) - 1, &s->value);
    } else {
        s->where = GROUP_AT_OFFSET;
        if (!cli_parse_u64(text, 0, (uint64_t)INT64_MAX, &offset)) {
            return false;
        }
        s->value = (int64_t)offset;
    }
    return true;
}

bool group_setting_parse(const char *text, struct group_setting *ret_setting)
{
    struct group_setting s = {0};
    const char *equals = strchr(text, '=');
    size_t n = equals != NULL ? (size_t)(equals - text) : 0;
    uint64_t partition = 0;
    if (n == 0 || n >= sizeof(s.topic)) {
        return false;
    }
    memcpy(s.topic, text, n);
    char *slash = strchr(s.topic, '/');
    if (slash != NULL) {
        *slash = '\0';
        s.has_partition = true;
        if (slash == s.topic || !cli_parse_u64(slash + 1, 0, UINT32_MAX - 1, &partition)) {
            return false;
        }
        s.partition = (uint32_t)partition;
    }
    if (!parse_where(equals + 1, &s)) {
        return false;
    }
    *ret_setting = s;
    return true;
}

/* --- What is to be changed --- */

/* The entry of a partition, made when it is new; NULL: no memory. */
static struct change *change_of(struct changes *c, const char *topic, uint32_t partition)
{
    for (size_t i = 0; i < c->n; i++) {
        if (c->all[i].partition == partition && strcmp(c->all[i].topic, topic) == 0) {
            return &c->all[i];
        }
    }
    if (c->n == c->cap) {
        size_t cap = c->cap == 0 ? 64 : 2 * c->cap;
        struct change *all = realloc(c->all, cap * sizeof(*all));
        if (all == NULL) {
            return NULL;
        }
        c->all = all;
        c->cap = cap;
    }
    struct change *change = &c->all[c->n++];
    *change = (struct change){.partition = partition, .before = -1, .after = -1};
    (void)snprintf(change->topic, sizeof(change->topic), "%s", topic);
    return change;
}

/* Where it begins and ends, as a majority confirms. */
static enum cli_exit ask_bounds(struct ask *ask, const struct group_setting *s, uint32_t partition,
                                Weir__BrokerOffsets *ret_bounds)
{
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    char topic[CONFIG_NAME_MAX];
    (void)snprintf(topic, sizeof(topic), "%s", s->topic);
    m.topic = topic;
    m.partition = partition;
    m.linearizable = true;
    m.by_time = s->where == GROUP_AT_TIME;
    m.time_ms = s->value;
    for (uint32_t waited = 0; waited < ask->cluster->timeout_ms; waited += RETRY_MS) {
        ask_all(ask, BROKER_OFFSETS_REQUEST, &m.base, BROKER_OFFSETS);
        for (unsigned i = 0; i < ask->n_nodes; i++) {
            if (ask->nodes[i].status == 0) {
                *ret_bounds = *(const Weir__BrokerOffsets *)ask->nodes[i].answer;
                return CLI_OK;
            }
        }
        ask_pause(ask, RETRY_MS);
    }
    return cli_fail(CLI_UNAVAILABLE, "%s-%u has no leader that answers", s->topic, partition);
}

static enum cli_exit plan_one(struct ask *ask, const struct group_setting *s, uint32_t partition,
                              struct changes *c)
{
    Weir__BrokerOffsets bounds = WEIR__BROKER_OFFSETS__INIT;
    enum cli_exit rv = ask_bounds(ask, s, partition, &bounds);
    if (rv != CLI_OK) {
        return rv;
    }
    int64_t at = s->where == GROUP_AT_BEGIN  ? bounds.start
                 : s->where == GROUP_AT_END  ? bounds.high_watermark
                 : s->where == GROUP_AT_TIME ? bounds.by_time
                                             : s->value;
    if (s->where == GROUP_AT_TIME && at > bounds.high_watermark) {
        at = bounds.high_watermark;
    }
    if (at < bounds.start || at > bounds.high_watermark) {
        return cli_fail(CLI_FAILED, "%s-%u holds %lld to %lld: %lld is not in it", s->topic,
                        partition, (long long)bounds.start, (long long)bounds.high_watermark,
                        (long long)at);
    }
    struct change *change = change_of(c, s->topic, partition);
    if (change == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    change->after = at;
    return CLI_OK;
}

static enum cli_exit plan(struct ask *ask, const struct group_setting *s, struct changes *c)
{
    uint32_t n = group_topic_partitions(ask, s->topic);
    enum cli_exit rv = CLI_OK;
    if (n == 0) {
        return cli_fail(CLI_FAILED, "no topic '%s'", s->topic);
    }
    if (s->has_partition && s->partition >= n) {
        return cli_fail(CLI_FAILED, "topic '%s' has partitions 0 to %u", s->topic, n - 1);
    }
    for (uint32_t i = 0; i < n && rv == CLI_OK; i++) {
        if (!s->has_partition || s->partition == i) {
            rv = plan_one(ask, s, i, c);
        }
    }
    return rv;
}

/* --- The coordinator --- */

/* Whoever coordinates answers 0 or refuses, which is final; passing troubles (no leader now, a new
 * one that waits for members) are sat out. *ret_node: who said it, NULL when nobody coordinates. */
static int ask_coordinator(struct ask *ask, enum message_type type,
                           const ProtobufCMessage *question, enum message_type expected,
                           const struct ask_node **ret_node)
{
    *ret_node = NULL;
    for (uint32_t waited = 0; waited < ask->cluster->timeout_ms; waited += RETRY_MS) {
        ask_all(ask, type, question, expected);
        for (unsigned i = 0; i < ask->n_nodes; i++) {
            const struct ask_node *n = &ask->nodes[i];
            if (n->status == 0 || n->status == WEIR_ENOTFOUND || n->status == WEIR_EINVAL ||
                n->status == WEIR_EBUSY) {
                *ret_node = n;
                return n->status;
            }
            *ret_node = n->ready && n->status != WEIR_ENOTLEADER ? n : *ret_node;
        }
        ask_pause(ask, RETRY_MS);
    }
    return WEIR_EUNAVAILABLE;
}

static enum cli_exit refused(const char *group, int status, const struct ask_node *node)
{
    return cli_fail(status == WEIR_EUNAVAILABLE ? CLI_UNAVAILABLE : CLI_FAILED, "group '%s': %s",
                    group, node != NULL ? node->text : "no node coordinates it now");
}

/* What is committed now; of partitions that are not listed yet only with `all`. */
static enum cli_exit take_committed(struct changes *c, const Weir__BrokerGroupDescription *d,
                                    bool all)
{
    for (size_t i = 0; i < d->n_offsets; i++) {
        const Weir__BrokerGroupTopic *t = d->offsets[i];
        for (size_t k = 0; k < t->n_offsets && k < t->n_partitions; k++) {
            size_t before = c->n;
            struct change *change = change_of(c, t->topic, t->partitions[k]);
            if (change == NULL) {
                return cli_fail(CLI_FAILED, "out of memory");
            }
            change->before = t->offsets[k];
            c->n = all ? c->n : before;
        }
    }
    return CLI_OK;
}

static enum cli_exit commit_some(struct ask *ask, char *group, struct change *changes, size_t n)
{
    Weir__BrokerGroupCommit m = WEIR__BROKER_GROUP_COMMIT__INIT;
    const struct ask_node *node = NULL;
    static char nobody[] = "";
    Weir__BrokerGroupTopic *topics = calloc(n, sizeof(*topics));
    Weir__BrokerGroupTopic **list = calloc(n, sizeof(Weir__BrokerGroupTopic *));
    enum cli_exit rv = CLI_FAILED;
    if (topics == NULL || list == NULL) {
        (void)cli_fail(CLI_FAILED, "out of memory");
    } else {
        for (size_t i = 0; i < n; i++) {
            weir__broker_group_topic__init(&topics[i]);
            topics[i].topic = changes[i].topic;
            topics[i].partitions = &changes[i].partition;
            topics[i].offsets = &changes[i].after;
            topics[i].n_partitions = topics[i].n_offsets = 1;
            list[i] = &topics[i];
        }
        m.group = group;
        m.member = nobody;
        m.offsets = list;
        m.n_offsets = n;
        int status =
            ask_coordinator(ask, BROKER_GROUP_COMMIT, &m.base, BROKER_GROUP_COMMITTED, &node);
        rv = status == 0 ? CLI_OK : refused(group, status, node);
    }
    free(topics);
    free(list);
    return rv;
}

static enum cli_exit commit(struct ask *ask, char *group, struct changes *c)
{
    enum cli_exit rv = CLI_OK;
    for (size_t i = 0; i < c->n && rv == CLI_OK; i += GROUP_CHANGE_MAX) {
        size_t n = c->n - i < GROUP_CHANGE_MAX ? c->n - i : GROUP_CHANGE_MAX;
        rv = commit_some(ask, group, &c->all[i], n);
    }
    return rv;
}

/* --- Telling --- */

static json_t *number_or_null(int64_t v)
{
    return v < 0 ? json_null() : json_integer(v);
}

static void print_offset(const char *what, int64_t offset)
{
    if (offset < 0) {
        printf(" %s -", what);
    } else {
        printf(" %s %lld", what, (long long)offset);
    }
}

static int compare(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    int by_topic = strcmp(x->topic, y->topic);
    return by_topic != 0 ? by_topic : (x->partition > y->partition) - (x->partition < y->partition);
}

static void tell(const char *group, struct changes *c, json_t *out)
{
    json_t *partitions = json_array();
    qsort(c->all, c->n, sizeof(*c->all), compare);
    for (size_t i = 0; i < c->n; i++) {
        const struct change *change = &c->all[i];
        json_array_append_new(partitions, json_pack("{s:s, s:I, s:o, s:o}", "topic", change->topic,
                                                    "partition", (json_int_t)change->partition,
                                                    "before", number_or_null(change->before),
                                                    "after", number_or_null(change->after)));
        if (out == NULL) {
            printf("%s-%u", change->topic, change->partition);
            print_offset("was", change->before);
            print_offset("is", change->after);
            printf("\n");
        }
    }
    if (out != NULL) {
        json_object_set_new(out, "group", json_string(group));
        json_object_set(out, "partitions", partitions);
    }
    json_decref(partitions);
}

/* --- The commands --- */

static enum cli_exit ask_committed(struct ask *ask, char *group, struct changes *c, bool all)
{
    Weir__BrokerGroupDescribeRequest m = WEIR__BROKER_GROUP_DESCRIBE_REQUEST__INIT;
    const struct ask_node *node = NULL;
    m.group = group;
    int status = ask_coordinator(ask, BROKER_GROUP_DESCRIBE_REQUEST, &m.base, BROKER_GROUPS, &node);
    if (status == WEIR_ENOTFOUND && !all) {
        return CLI_OK; /* it is new */
    }
    if (status != 0) {
        return refused(group, status, node);
    }
    return take_committed(c, ((const Weir__BrokerGroups *)node->answer)->groups[0], all);
}

enum cli_exit group_set(struct ask *ask, char *group, const struct group_setting *settings,
                        unsigned n_settings, json_t *out)
{
    struct changes c = {0};
    enum cli_exit rv = CLI_OK;
    for (unsigned i = 0; i < n_settings && rv == CLI_OK; i++) {
        rv = plan(ask, &settings[i], &c);
    }
    rv = rv == CLI_OK ? ask_committed(ask, group, &c, false) : rv;
    rv = rv == CLI_OK ? commit(ask, group, &c) : rv;
    if (rv == CLI_OK) {
        tell(group, &c, out);
    }
    free(c.all);
    return rv;
}

enum cli_exit group_delete(struct ask *ask, char *group, json_t *out)
{
    struct changes c = {0};
    enum cli_exit rv = ask_committed(ask, group, &c, true);
    if (rv == CLI_OK && c.n == 0) {
        rv = cli_fail(CLI_FAILED, "group '%s' has members, and nothing is committed", group);
    }
    rv = rv == CLI_OK ? commit(ask, group, &c) : rv;
    if (rv == CLI_OK) {
        tell(group, &c, out);
    }
    free(c.all);
    return rv;
}
