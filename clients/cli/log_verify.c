/* weir log verify: every replica of every partition, range by range, from its disk.
 *
 * A range is hashed by each replica with every checksum verified (partition_hash); equal bytes give
 * equal hashes. Ranges end where the first replica says, after about RANGE_BYTES, so no node is
 * kept busy for long. Compared is what all replicas have committed; one that has committed less is
 * reported as behind, and is compared as far as it goes.
 *
 * Replicas compact when each has the time. A difference counts between two that have compacted the
 * range as far as each other (docs/decisions/0222); else the range is asked for again, until they
 * have, or for PATIENCE_MS: who has not come so far by then is behind. */
#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/ask.h"
#include "clients/cli/json.h"
#include "clients/cli/log.h"

#define RANGE_BYTES (1u << 20)
/* Replicas may trail by what is in flight; more than this many entries is "behind". */
#define BEHIND_ENTRIES 1000
#define PATIENCE_MS    60000
#define PAUSE_MS       500

enum verdict {
    VERDICT_EQUAL,
    VERDICT_BEHIND,
    VERDICT_DIFFERS,
    VERDICT_CORRUPT,
    VERDICT_FAILED,
    VERDICT_DOWN,
    VERDICT_ABSENT, /* it is not to hold the partition */
};
static const char *const verdict_names[] = {"equal",  "behind", "differs", "corrupt",
                                            "failed", "down",   "absent"};

struct replica {
    enum verdict verdict;
    const Weir__BrokerReplicaStatus *status; /* NULL: down */
    uint64_t checked;                        /* last index that was compared */
    bool left_out;                           /* it compacts for ever */
    char text[ERROR_TEXT_MAX];
};

struct verify {
    const struct log_topic_args *args;
    struct ask ask;
    /* Statuses are kept apart: later questions free a node's answer. */
    ProtobufCMessage *statuses[ASK_NODES_MAX];
    char down[ASK_NODES_MAX][ERROR_TEXT_MAX];
    json_t *out;
    uint64_t n_partitions, n_bad, n_entries;
    uint64_t n_different; /* of the bad ones those of which more is known than that somebody did not
                             answer */
};

/* --- One partition --- */

static void judge(struct replica *r, enum verdict verdict, const char *text)
{
    if (verdict > r->verdict) {
        r->verdict = verdict;
        (void)snprintf(r->text, sizeof(r->text), "%s", text);
    }
}

/* What one replica says about a range. */
struct answer {
    bool have;
    uint8_t hash[32];
    uint64_t last;
    int64_t compacted, tombstones_ms;
    bool compacting;
};

/* Hash of [first, last] on node k; it may end earlier. False: judged. */
static bool hash_range(struct verify *v, unsigned k, struct replica *r, uint64_t first,
                       uint64_t last, uint32_t bytes_max, struct answer *ret)
{
    Weir__BrokerHashRequest m = WEIR__BROKER_HASH_REQUEST__INIT;
    const ProtobufCMessage *answer = NULL;
    m.topic = r->status->topic;
    m.partition = r->status->partition;
    m.first_index = first;
    m.last_index = last;
    m.bytes_max = bytes_max;
    int rv = ask_node(&v->ask, k, BROKER_HASH_REQUEST, &m.base, BROKER_HASH, &answer);
    if (rv != 0) {
        judge(r, rv == WEIR_ECORRUPT ? VERDICT_CORRUPT : VERDICT_DOWN, v->ask.nodes[k].text);
        return false;
    }
    const Weir__BrokerHash *h = (const Weir__BrokerHash *)answer;
    if (h->hash.len != 32 || h->last_index < first || h->last_index > last) {
        judge(r, VERDICT_DOWN, "it answered nonsense");
        return false;
    }
    *ret = (struct answer){.have = true,
                           .last = h->last_index,
                           .compacted = h->compacted_offset,
                           .tombstones_ms = h->tombstones_ms,
                           .compacting = h->compacting};
    memcpy(ret->hash, h->hash.data, 32);
    return true;
}

static bool compares(const struct replica *r)
{
    return !r->left_out && (r->verdict == VERDICT_EQUAL || r->verdict == VERDICT_BEHIND);
}

/* One hash of the same range from each replica that is compared and has it; the first chooses the
 * end. One that has more bytes there than it reads at once makes it earlier. Returns the end, 0:
 * nobody answered. */
static uint64_t ask_range(struct verify *v, struct replica *replicas, uint64_t first, uint64_t last,
                          struct answer *answers)
{
    uint64_t end = 0;
    uint32_t bytes = RANGE_BYTES;
    memset(answers, 0, ASK_NODES_MAX * sizeof(*answers));
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        struct replica *r = &replicas[k];
        uint64_t upto = end != 0 ? end : last;
        assert(!compares(r) || r->status != NULL); /* else its verdict is "down" */
        if (!compares(r) || r->status->commit_index < (end != 0 ? end : first)) {
            continue;
        }
        upto = r->status->commit_index < upto ? r->status->commit_index : upto;
        if (!hash_range(v, k, r, first, upto, bytes, &answers[k])) {
            continue;
        }
        if (end != 0 && answers[k].last < end) {
            memset(answers, 0, ASK_NODES_MAX * sizeof(*answers));
            last = answers[k].last;
            k = UINT_MAX; /* all of them again, up to there */
            end = 0;
            bytes = UINT32_MAX;
            continue;
        }
        end = answers[k].last;
        bytes = UINT32_MAX;
    }
    return end;
}

static bool same_marks(const struct answer *a, const struct answer *b)
{
    return a->compacted == b->compacted && a->tombstones_ms == b->tombstones_ms && !a->compacting &&
           !b->compacting;
}

enum comparison { ALL_EQUAL, SOME_DIFFER, UNDECIDED };

/* When two replicas that are not equally far with compaction differ, nothing is known yet. */
static enum comparison compare(const struct verify *v, const struct answer *answers)
{
    enum comparison found = ALL_EQUAL;
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        for (unsigned i = 0; i < k && answers[k].have; i++) {
            if (!answers[i].have || memcmp(answers[i].hash, answers[k].hash, 32) == 0) {
                continue;
            }
            if (!same_marks(&answers[i], &answers[k])) {
                return UNDECIDED;
            }
            found = SOME_DIFFER;
        }
    }
    return found;
}

/* Patience is over: those that are not as far as the furthest are compared no more. */
static void leave_out(struct verify *v, struct replica *replicas, struct answer *answers)
{
    const struct answer *most = NULL;
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        const struct answer *a = &answers[k];
        if (a->have && !a->compacting &&
            (most == NULL || a->compacted > most->compacted ||
             (a->compacted == most->compacted && a->tombstones_ms > most->tombstones_ms))) {
            most = a;
        }
    }
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        struct answer *a = &answers[k];
        if (a->have && (most == NULL || !same_marks(a, most))) {
            judge(&replicas[k], VERDICT_BEHIND, "it is still compacting");
            replicas[k].left_out = true;
            a->have = false;
        }
    }
}

/* What most replicas say is taken as right; of two that differ neither is. */
static void judge_range(struct verify *v, struct replica *replicas, const struct answer *answers,
                        uint64_t first, uint64_t end)
{
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        unsigned same = 0, others = 0;
        for (unsigned i = 0; i < v->ask.n_nodes && answers[k].have; i++) {
            bool equal = answers[i].have && memcmp(answers[i].hash, answers[k].hash, 32) == 0;
            same += equal;
            others += answers[i].have && !equal;
        }
        replicas[k].checked = answers[k].have ? end : replicas[k].checked;
        if (others > 0 && same <= others) {
            char text[128];
            (void)snprintf(text, sizeof(text), "entries %llu to %llu differ from the other copies",
                           (unsigned long long)first, (unsigned long long)end);
            judge(&replicas[k], VERDICT_DIFFERS, text);
        }
    }
}

/* Returns the end of what was compared; 0: nobody is left to compare. A difference has to be seen
 * twice: entries that were just fetched may be as far as a decision that comes right behind them.
 */
static uint64_t compare_range(struct verify *v, struct replica *replicas, uint64_t first,
                              uint64_t last)
{
    struct answer answers[ASK_NODES_MAX];
    unsigned differed = 0;
    uint64_t end;
    for (uint32_t waited_ms = 0;; waited_ms += PAUSE_MS) {
        end = ask_range(v, replicas, first, last, answers);
        enum comparison found = end != 0 ? compare(v, answers) : ALL_EQUAL;
        differed = found == SOME_DIFFER ? differed + 1 : 0;
        if (found == UNDECIDED && waited_ms >= PATIENCE_MS) {
            leave_out(v, replicas, answers);
            break;
        }
        if (found == ALL_EQUAL || differed == 2) {
            break;
        }
        ask_pause(&v->ask, PAUSE_MS);
    }
    judge_range(v, replicas, answers, first, end);
    return end;
}

static const Weir__BrokerReplicaStatus *status_of(const struct verify *v, unsigned k, size_t i)
{
    const Weir__BrokerStatus *s = (const Weir__BrokerStatus *)v->statuses[k];
    return s != NULL && i < s->n_replicas ? s->replicas[i] : NULL;
}

static void begin(struct verify *v, size_t i, struct replica *replicas, uint64_t *ret_first,
                  uint64_t *ret_last)
{
    *ret_first = 1;
    *ret_last = 0;
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        struct replica *r = &replicas[k];
        r->status = status_of(v, k, i);
        if (r->status == NULL) {
            judge(r, VERDICT_DOWN, v->down[k]);
        } else if (r->status->absent) {
            judge(r, VERDICT_ABSENT, "");
        } else if (r->status->failed[0] != '\0') {
            judge(r, r->status->failed_code == WEIR_ECORRUPT ? VERDICT_CORRUPT : VERDICT_FAILED,
                  r->status->failed);
        } else {
            *ret_last = r->status->commit_index > *ret_last ? r->status->commit_index : *ret_last;
            *ret_first = r->status->first_index > *ret_first ? r->status->first_index : *ret_first;
        }
    }
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        struct replica *r = &replicas[k];
        if (r->verdict == VERDICT_EQUAL && r->status->commit_index + BEHIND_ENTRIES < *ret_last) {
            char text[128];
            (void)snprintf(text, sizeof(text), "committed %llu of %llu entries",
                           (unsigned long long)r->status->commit_index,
                           (unsigned long long)*ret_last);
            judge(r, VERDICT_BEHIND, text);
        }
    }
}

static void report(struct verify *v, const char *topic, uint32_t partition,
                   const struct replica *replicas, uint64_t last)
{
    bool good = true, different = false;
    json_t *list = v->out != NULL ? json_array() : NULL;
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        const struct replica *r = &replicas[k];
        const struct ask_node *n = &v->ask.nodes[k];
        if (r->verdict == VERDICT_ABSENT) {
            continue;
        }
        good &= r->verdict == VERDICT_EQUAL;
        different |= r->verdict != VERDICT_EQUAL && r->verdict != VERDICT_DOWN;
        if (list != NULL) {
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:s}", "node", n->name,
                                                  "broker", n->address, "result",
                                                  verdict_names[r->verdict], "checked_index",
                                                  (json_int_t)r->checked, "detail", r->text));
        }
    }
    v->n_partitions++;
    v->n_bad += !good;
    v->n_different += different;
    v->n_entries += last;
    if (list != NULL) {
        json_array_append_new(v->out,
                              json_pack("{s:s, s:I, s:b, s:I, s:o}", "topic", topic, "partition",
                                        (json_int_t)partition, "equal", good, "committed_index",
                                        (json_int_t)last, "replicas", list));
        return;
    }
    printf("%s-%u: %s, %llu entries\n", topic, partition,
           good        ? "equal"
           : different ? "NOT EQUAL"
                       : "NOT COMPARED",
           (unsigned long long)last);
    for (unsigned k = 0; k < v->ask.n_nodes && !good; k++) {
        printf("  %-8s %-22s %-8s %s\n", v->ask.nodes[k].name, v->ask.nodes[k].address,
               verdict_names[replicas[k].verdict], replicas[k].text);
    }
}

static void verify_partition(struct verify *v, size_t i, const Weir__BrokerReplicaStatus *any)
{
    struct replica replicas[ASK_NODES_MAX] = {0};
    uint64_t first = 1, last = 0;
    begin(v, i, replicas, &first, &last);
    while (first <= last) {
        uint64_t end = compare_range(v, replicas, first, last);
        if (end == 0) {
            break; /* nobody is left to compare */
        }
        first = end + 1;
    }
    report(v, any->topic, any->partition, replicas, last);
}

/* --- All of them --- */

static const Weir__BrokerStatus *take_statuses(struct verify *v)
{
    const Weir__BrokerStatus *any = NULL;
    Weir__BrokerStatusRequest m = WEIR__BROKER_STATUS_REQUEST__INIT;
    ask_all(&v->ask, BROKER_STATUS_REQUEST, &m.base, BROKER_STATUS);
    for (unsigned k = 0; k < v->ask.n_nodes; k++) {
        struct ask_node *n = &v->ask.nodes[k];
        if (n->status != 0) {
            memcpy(v->down[k], n->text, sizeof(v->down[k]));
            continue;
        }
        v->statuses[k] = n->answer;
        n->answer = NULL;
        any = (const Weir__BrokerStatus *)v->statuses[k];
    }
    return any;
}

static enum cli_exit verify_all(struct verify *v)
{
    const Weir__BrokerStatus *any = take_statuses(v);
    if (any == NULL) {
        return cli_fail(CLI_UNAVAILABLE, "no node answered");
    }
    for (size_t i = 0; i < any->n_replicas; i++) {
        if (v->args->topic == NULL || strcmp(any->replicas[i]->topic, v->args->topic) == 0) {
            verify_partition(v, i, any->replicas[i]);
        }
    }
    if (v->n_partitions == 0) {
        return cli_fail(CLI_FAILED, "no topic '%s'", v->args->topic != NULL ? v->args->topic : "");
    }
    if (v->out != NULL) {
        enum cli_exit rv = cli_print_json(
            json_pack("{s:b, s:I, s:I, s:O}", "equal", v->n_bad == 0, "partitions",
                      (json_int_t)v->n_partitions, "bad", (json_int_t)v->n_bad, "details", v->out));
        if (rv != CLI_OK) {
            return rv;
        }
    } else {
        printf("%llu partitions, %llu entries: %s\n", (unsigned long long)v->n_partitions,
               (unsigned long long)v->n_entries,
               v->n_bad == 0         ? "all replicas are equal"
               : v->n_different == 0 ? "NOT all replicas answered"
                                     : "NOT all replicas are equal");
    }
    return v->n_bad == 0 ? CLI_OK : v->n_different == 0 ? CLI_UNAVAILABLE : CLI_DIFFERENT;
}

int log_verify(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = log_topic_parse,
        .args_doc = "[TOPIC]",
        .children = cli_cluster_children,
        .doc = "Compare every replica of every partition of TOPIC (of all topics): equal bytes up "
               "to the commit mark, every checksum verified from disk. Succeeds only when all "
               "replicas are there, equal and healthy.\v" CLI_EXIT_HELP,
    };
    struct log_topic_args a = {0};
    struct verify v = {.args = &a};
    enum cli_exit rv = ask_start(&v.ask, &argp, argc, argv, &a, &a.cluster);
    if (rv != CLI_OK) {
        return (int)rv;
    }
    v.out = a.cluster.json ? json_array() : NULL;
    rv = verify_all(&v);
    json_decref(v.out);
    for (unsigned k = 0; k < v.ask.n_nodes; k++) {
        message_free(v.statuses[k]);
    }
    ask_close(&v.ask);
    return (int)rv;
}
