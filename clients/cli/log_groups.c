/* weir log groups */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/murmur2.h"
#include "clients/cli/json.h"
#include "clients/cli/log.h"
#include "clients/cli/log_groups.h"

enum { KEY_SET = 0x2000, KEY_DELETE };

static const struct argp_option options[] = {
    {"set", KEY_SET, "TOPIC[/PARTITION]=WHERE", 0,
     "Where the group, which must have no members, goes on: an offset, begin, end, or time:TIME "
     "(RFC 3339 or ms since 1970: the first record at or after it). May be given more than once",
     1},
    {"delete", KEY_DELETE, 0, 0, "Forget where the group, which must have no members, stands", 1},
    {0},
};

struct arguments {
    struct cli_cluster cluster;
    char *group; /* NULL: all */
    struct group_setting settings[GROUP_SETTINGS_MAX];
    unsigned n_settings;
    bool delete;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->cluster;
        return 0;
    case ARGP_KEY_ARG:
        if (a->group != NULL) {
            argp_error(state, "one group, not also '%s'", arg);
        }
        a->group = arg;
        return 0;
    case KEY_SET:
        if (a->n_settings == GROUP_SETTINGS_MAX) {
            argp_error(state, "--set: at most %d times", GROUP_SETTINGS_MAX);
        } else if (!group_setting_parse(arg, &a->settings[a->n_settings++])) {
            argp_error(state,
                       "--set: TOPIC=WHERE or TOPIC/PARTITION=WHERE, where WHERE is an offset, "
                       "begin, end or time:TIME, not '%s'",
                       arg);
        }
        return 0;
    case KEY_DELETE:
        a->delete = true;
        return 0;
    case ARGP_KEY_END:
        if ((a->n_settings > 0 || a->delete) && a->group == NULL) {
            argp_error(state, "which GROUP?");
        } else if (a->n_settings > 0 && a->delete) {
            argp_error(state, "--set or --delete");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

uint32_t group_topic_partitions(struct ask *ask, const char *topic)
{
    Weir__BrokerMetadataRequest m = WEIR__BROKER_METADATA_REQUEST__INIT;
    for (unsigned i = 0; i < ask->n_nodes; i++) {
        const ProtobufCMessage *answer = NULL;
        if (!ask->nodes[i].ready ||
            ask_node(ask, i, BROKER_METADATA_REQUEST, &m.base, BROKER_METADATA, &answer) != 0) {
            continue;
        }
        const Weir__BrokerMetadata *meta = (const Weir__BrokerMetadata *)answer;
        for (size_t k = 0; k < meta->n_topics; k++) {
            if (strcmp(meta->topics[k]->name, topic) == 0) {
                return meta->topics[k]->partitions;
            }
        }
    }
    return 0;
}

/* Asks whoever coordinates: one of the nodes answers. Borrowed until the next question. */
static enum cli_exit describe(struct ask *ask, char *group, uint32_t partition,
                              const Weir__BrokerGroups **ret_groups)
{
    Weir__BrokerGroupDescribeRequest m = WEIR__BROKER_GROUP_DESCRIBE_REQUEST__INIT;
    m.group = group;
    m.partition = partition;
    ask_all(ask, BROKER_GROUP_DESCRIBE_REQUEST, &m.base, BROKER_GROUPS);
    for (unsigned i = 0; i < ask->n_nodes; i++) {
        if (ask->nodes[i].status == 0) {
            *ret_groups = (const Weir__BrokerGroups *)ask->nodes[i].answer;
            return CLI_OK;
        }
    }
    for (unsigned i = 0; i < ask->n_nodes; i++) {
        if (ask->nodes[i].status == WEIR_ENOTFOUND || ask->nodes[i].status == WEIR_EINVAL) {
            return cli_fail(CLI_FAILED, "group '%s': %s", group, ask->nodes[i].text);
        }
    }
    return cli_fail(CLI_UNAVAILABLE, "no node coordinates partition %u of topic groups now",
                    partition);
}

/* --- All --- */

static void print_brief(const Weir__BrokerGroupDescription *d, json_t *out)
{
    if (out != NULL) {
        json_array_append_new(out, json_pack("{s:s, s:I, s:I, s:I}", "group", d->group, "members",
                                             (json_int_t)d->member_count, "generation",
                                             (json_int_t)d->generation, "committed_ms",
                                             (json_int_t)d->committed_ms));
    } else {
        printf("%-32s %u members\n", d->group, d->member_count);
    }
}

static enum cli_exit print_all(struct ask *ask, json_t *out)
{
    static char none[] = "";
    uint32_t n = group_topic_partitions(ask, CONFIG_TOPIC_GROUPS);
    if (n == 0) {
        return cli_fail(CLI_UNAVAILABLE, "the cluster has no topic groups");
    }
    for (uint32_t p = 0; p < n; p++) {
        const Weir__BrokerGroups *groups = NULL;
        enum cli_exit rv = describe(ask, none, p, &groups);
        if (rv != CLI_OK) {
            return rv;
        }
        for (size_t i = 0; i < groups->n_groups; i++) {
            print_brief(groups->groups[i], out);
        }
    }
    return CLI_OK;
}

/* --- One --- */

/* A partition of the group: copied, because the questions about its end overwrite the answer. */
struct line {
    char topic[CONFIG_NAME_MAX];
    uint32_t partition;
    int64_t committed, end; /* -1: none, not known */
    char member[64], client[64], peer[64];
};

struct lines {
    struct line *lines;
    size_t n;
    char *group;
    uint32_t n_members;
    uint64_t generation;
};

static struct line *line_of(struct lines *l, const char *topic, uint32_t partition)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->lines[i].partition == partition && strcmp(l->lines[i].topic, topic) == 0) {
            return &l->lines[i];
        }
    }
    struct line *line = &l->lines[l->n++];
    (void)snprintf(line->topic, sizeof(line->topic), "%s", topic);
    line->partition = partition;
    line->committed = line->end = -1;
    return line;
}

static enum cli_exit collect(struct lines *l, const Weir__BrokerGroupDescription *d)
{
    size_t max = 1;
    for (size_t i = 0; i < d->n_offsets; i++) {
        max += d->offsets[i]->n_partitions;
    }
    for (size_t i = 0; i < d->n_members; i++) {
        for (size_t k = 0; k < d->members[i]->n_assigned; k++) {
            max += d->members[i]->assigned[k]->n_partitions;
        }
    }
    l->n_members = d->member_count;
    l->generation = d->generation;
    l->lines = calloc(max, sizeof(*l->lines));
    if (l->lines == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    for (size_t i = 0; i < d->n_offsets; i++) {
        const Weir__BrokerGroupTopic *t = d->offsets[i];
        for (size_t k = 0; k < t->n_offsets && k < t->n_partitions; k++) {
            line_of(l, t->topic, t->partitions[k])->committed = t->offsets[k];
        }
    }
    for (size_t i = 0; i < d->n_members; i++) {
        const Weir__BrokerGroupMember *m = d->members[i];
        for (size_t k = 0; k < m->n_assigned; k++) {
            for (size_t j = 0; j < m->assigned[k]->n_partitions; j++) {
                struct line *line =
                    line_of(l, m->assigned[k]->topic, m->assigned[k]->partitions[j]);
                (void)snprintf(line->member, sizeof(line->member), "%s", m->member);
                (void)snprintf(line->client, sizeof(line->client), "%s", m->client);
                (void)snprintf(line->peer, sizeof(line->peer), "%s", m->peer);
            }
        }
    }
    return CLI_OK;
}

static void find_end(struct ask *ask, struct line *line)
{
    Weir__BrokerOffsetsRequest m = WEIR__BROKER_OFFSETS_REQUEST__INIT;
    m.topic = line->topic;
    m.partition = line->partition;
    ask_all(ask, BROKER_OFFSETS_REQUEST, &m.base, BROKER_OFFSETS);
    for (unsigned i = 0; i < ask->n_nodes; i++) {
        const Weir__BrokerOffsets *o = (const Weir__BrokerOffsets *)ask->nodes[i].answer;
        if (ask->nodes[i].status == 0 && o->leader) {
            line->end = o->high_watermark;
        }
    }
}

static int64_t lag_of(const struct line *l)
{
    return l->committed < 0 || l->end < l->committed ? -1 : l->end - l->committed;
}

static int compare(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int by_topic = strcmp(x->topic, y->topic);
    return by_topic != 0 ? by_topic : (x->partition > y->partition) - (x->partition < y->partition);
}

static json_t *number_or_null(int64_t v)
{
    return v < 0 ? json_null() : json_integer(v);
}

static void print_lines(const struct lines *l, json_t *out)
{
    int64_t total = 0;
    json_t *partitions = json_array();
    for (size_t i = 0; i < l->n; i++) {
        const struct line *p = &l->lines[i];
        int64_t lag = lag_of(p);
        total += lag > 0 ? lag : 0;
        json_array_append_new(partitions,
                              json_pack("{s:s, s:I, s:o, s:o, s:o, s:s, s:s, s:s}", "topic",
                                        p->topic, "partition", (json_int_t)p->partition,
                                        "committed", number_or_null(p->committed), "end",
                                        number_or_null(p->end), "lag", number_or_null(lag),
                                        "member", p->member, "client", p->client, "peer", p->peer));
        if (out == NULL) {
            char committed[24] = "-", end[24] = "-", behind[24] = "-";
            if (p->committed >= 0) {
                (void)snprintf(committed, sizeof(committed), "%lld", (long long)p->committed);
            }
            if (p->end >= 0) {
                (void)snprintf(end, sizeof(end), "%lld", (long long)p->end);
            }
            if (lag >= 0) {
                (void)snprintf(behind, sizeof(behind), "%lld", (long long)lag);
            }
            printf("%s-%-6u committed %-12s end %-12s lag %-10s %s %s\n", p->topic, p->partition,
                   committed, end, behind, p->member[0] != '\0' ? p->member : "nobody", p->peer);
        }
    }
    if (out == NULL) {
        printf("%u members, lag %lld, generation %llu\n", l->n_members, (long long)total,
               (unsigned long long)l->generation);
        json_decref(partitions);
        return;
    }
    json_object_set_new(out, "group", json_string(l->group));
    json_object_set_new(out, "members", json_integer(l->n_members));
    json_object_set_new(out, "generation", json_integer((json_int_t)l->generation));
    json_object_set_new(out, "lag", json_integer(total));
    json_object_set_new(out, "partitions", partitions);
}

static enum cli_exit print_one(struct ask *ask, char *group, json_t *out)
{
    const Weir__BrokerGroups *groups = NULL;
    struct lines l = {.group = group};
    uint32_t n = group_topic_partitions(ask, CONFIG_TOPIC_GROUPS);
    enum cli_exit rv =
        describe(ask, group, n > 0 ? murmur2_partition(group, strlen(group), n) : 0, &groups);
    if (rv == CLI_OK) {
        rv = collect(&l, groups->groups[0]);
    }
    for (size_t i = 0; i < l.n && rv == CLI_OK; i++) {
        find_end(ask, &l.lines[i]);
    }
    if (rv == CLI_OK) {
        qsort(l.lines, l.n, sizeof(*l.lines), compare);
        print_lines(&l, out);
    }
    free(l.lines);
    return rv;
}

int log_groups(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "[GROUP]",
        .children = cli_cluster_children,
        .doc = "The consumer groups of the cluster, or one of them: who consumes which partition, "
               "what is committed, and how far that is from the end. With --set or --delete: "
               "changes where it stands.\v" CLI_EXIT_HELP,
    };
    struct arguments a = {0};
    struct ask ask;
    enum cli_exit rv = ask_start(&ask, &argp, argc, argv, &a, &a.cluster);
    if (rv != CLI_OK) {
        return (int)rv;
    }
    json_t *out = !a.cluster.json ? NULL : a.group != NULL ? json_object() : json_array();
    if (a.n_settings > 0) {
        rv = group_set(&ask, a.group, a.settings, a.n_settings, out);
    } else if (a.delete) {
        rv = group_delete(&ask, a.group, out);
    } else {
        rv = a.group != NULL ? print_one(&ask, a.group, out) : print_all(&ask, out);
    }
    if (out != NULL && rv == CLI_OK) {
        rv = cli_print_json(json_incref(out));
    }
    json_decref(out);
    ask_close(&ask);
    return (int)rv;
}
