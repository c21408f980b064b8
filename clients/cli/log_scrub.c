/* weir log scrub: has every node read its logs from disk and check them, waits, and says what was
 * found and what of it has been mended from other replicas. */
#include <stdio.h>
#include <string.h>

#include "clients/cli/ask.h"
#include "clients/cli/json.h"
#include "clients/cli/log.h"

#define POLL_MS 100
/* Mending is given so long after the last node has read its logs. */
#define MEND_MS 20000

struct scrub {
    const struct log_topic_args *args;
    struct ask ask;
    uint64_t rounds[ASK_NODES_MAX]; /* 0: the node does not take part */
    Weir__BrokerScrub last[ASK_NODES_MAX];
};

/* Asks all nodes; false: one of those that take part does not answer any more. */
static bool ask_round(struct scrub *s, bool start)
{
    Weir__BrokerScrubRequest m = WEIR__BROKER_SCRUB_REQUEST__INIT;
    bool all = true;
    m.start = start;
    m.topic = (char *)(uintptr_t)(s->args->topic != NULL ? s->args->topic : "");
    ask_all(&s->ask, BROKER_SCRUB_REQUEST, &m.base, BROKER_SCRUB);
    for (unsigned k = 0; k < s->ask.n_nodes; k++) {
        const struct ask_node *n = &s->ask.nodes[k];
        if (n->status == 0) {
            s->last[k] = *(const Weir__BrokerScrub *)n->answer;
            s->rounds[k] = start ? s->last[k].round : s->rounds[k];
        } else {
            all = false;
        }
    }
    return all;
}

static bool any_running(const struct scrub *s)
{
    for (unsigned k = 0; k < s->ask.n_nodes; k++) {
        if (s->rounds[k] != 0 && s->last[k].running && s->last[k].round == s->rounds[k]) {
            return true;
        }
    }
    return false;
}

static uint64_t damaged(const struct scrub *s)
{
    uint64_t n = 0;
    for (unsigned k = 0; k < s->ask.n_nodes; k++) {
        n += s->rounds[k] != 0 ? s->last[k].damaged : 0;
    }
    return n;
}

static enum cli_exit report(const struct scrub *s, bool all)
{
    json_t *out = json_array();
    uint64_t left = damaged(s);
    for (unsigned k = 0; k < s->ask.n_nodes; k++) {
        const struct ask_node *n = &s->ask.nodes[k];
        const Weir__BrokerScrub *r = &s->last[k];
        if (s->args->cluster.json) {
            json_array_append_new(
                out,
                json_pack("{s:s, s:b, s:I, s:I, s:I, s:I}", "node",
                          n->name[0] != '\0' ? n->name : n->address, "checked", s->rounds[k] != 0,
                          "entries", (json_int_t)r->entries, "bytes", (json_int_t)r->bytes, "found",
                          (json_int_t)r->found, "damaged", (json_int_t)r->damaged));
        } else if (s->rounds[k] == 0) {
            printf("%s  NOT CHECKED: %s\n", n->name[0] != '\0' ? n->name : n->address, n->text);
        } else {
            printf("%s  %llu entries, %llu MiB read; %llu damaged ranges found, %llu not mended\n",
                   n->name, (unsigned long long)r->entries, (unsigned long long)(r->bytes >> 20),
                   (unsigned long long)r->found, (unsigned long long)r->damaged);
        }
    }
    enum cli_exit rv = s->args->cluster.json ? cli_print_json(json_incref(out)) : CLI_OK;
    json_decref(out);
    if (rv != CLI_OK) {
        return rv;
    }
    return left > 0 ? CLI_DIFFERENT : all ? CLI_OK : CLI_UNAVAILABLE;
}

int log_scrub(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = log_topic_parse,
        .args_doc = "[TOPIC]",
        .children = cli_cluster_children,
        .doc = "Have every node read its copy of the log of TOPIC (of all topics) from disk and "
               "check every checksum, now and at full speed. Damaged ranges are fetched from other "
               "replicas. Succeeds when all nodes were checked and nothing is left damaged."
               "\v" CLI_EXIT_HELP,
    };
    struct log_topic_args a = {0};
    struct scrub s = {.args = &a};
    enum cli_exit rv = ask_start(&s.ask, &argp, argc, argv, &a, &a.cluster);
    if (rv != CLI_OK) {
        return (int)rv;
    }
    bool all = ask_round(&s, true);
    for (long waited_ms = 0; any_running(&s) || (damaged(&s) > 0 && waited_ms < MEND_MS);) {
        ask_pause(&s.ask, POLL_MS);
        waited_ms += any_running(&s) ? 0 : POLL_MS;
        all = ask_round(&s, false) && all;
        if (!all && !any_running(&s)) {
            break;
        }
    }
    rv = report(&s, all);
    ask_close(&s.ask);
    return (int)rv;
}
