/* weir log dump: what is in a stopped node's partition folder. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/log.h"
#include "clients/cli/log_print.h"
#include "log/control.h"
#include "log/dump.h"

struct arguments {
    const char *dir;
    uint64_t from;
    bool json, records;
};

struct dump_state {
    const struct arguments *args;
    char topic[256];
    uint32_t partition;
    uint64_t entries, damaged;
};

static const char *const type_names[] = {
    [LOG_ENTRY_BATCH] = "batch",
    [LOG_ENTRY_BARRIER] = "barrier",
    [LOG_ENTRY_CONFIG] = "configuration",
    [LOG_ENTRY_CONTROL] = "control",
};

enum { KEY_JSON = 0x2000, KEY_FROM, KEY_RECORDS };
static const struct argp_option options[] = {
    {"json", KEY_JSON, 0, 0, "One object a line", 1},
    {"from", KEY_FROM, "INDEX", 0, "Show entries from this index on (all are checked)", 1},
    {"records", KEY_RECORDS, 0, 0, "Show the records of batches too", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case KEY_JSON:
        a->json = true;
        return 0;
    case KEY_RECORDS:
        a->records = true;
        return 0;
    case KEY_FROM:
        if (!cli_parse_u64(arg, 1, UINT64_MAX, &a->from)) {
            argp_error(state, "--from: '%s' is no index", arg);
        }
        return 0;
    case ARGP_KEY_ARG:
        return cli_take_word(state, "folder", &a->dir, arg);
    case ARGP_KEY_END:
        if (a->dir == NULL) {
            argp_error(state, "which folder? (node.data/log/TOPIC-PARTITION)");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_line(json_t *o)
{
    (void)json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(o);
}

static void print_records(const struct dump_state *s, const struct dump_entry *e)
{
    struct batch_iter it;
    struct batch_record r;
    struct error err = {0};
    int rc = batch_iter_init(&it, e->payload, e->frame.len, &err);
    while (rc == 0 && (rc = batch_iter_next(&it, &r, &err)) == 1) {
        enum log_format format = s->args->json ? LOG_FORMAT_JSON : LOG_FORMAT_AUTO;
        log_print_record(format, s->topic, s->partition, &r);
        rc = 0;
    }
    if (rc != 0) {
        printf("  records: %s\n", err.text);
    }
}

static void on_entry(void *data, const struct dump_entry *e)
{
    struct dump_state *s = data;
    struct batch_info info = {0};
    struct control control = {0};
    struct error err = {0};
    const struct frame *f = &e->frame;
    s->entries++;
    bool batch = f->type == LOG_ENTRY_BATCH && batch_check(e->payload, f->len, &info, &err) == 0;
    bool bad = f->type == LOG_ENTRY_BATCH && !batch;
    if (f->type == LOG_ENTRY_CONTROL) {
        bad = control_decode(e->payload, f->len, &control, &err) != 0;
    }
    s->damaged += bad;
    const char *crc = bad ? err.text : "good";
    const char *kind = control.kind == CONTROL_START     ? "start"
                       : control.kind == CONTROL_COMPACT ? "compact"
                                                         : NULL;
    if (s->args->json) {
        json_t *o = json_pack("{sI ss sI sI sI si ss ss}", "index", (json_int_t)f->index.v, "type",
                              type_names[f->type], "term", (json_int_t)f->term.v, "offset",
                              (json_int_t)f->base_offset.v, "at", (json_int_t)e->at, "bytes",
                              (int)f->len, "file", e->file, "checksum", crc);
        if (batch) {
            json_object_set_new(o, "records", json_integer(info.record_count));
            json_object_set_new(o, "time_ms", json_integer(info.max_timestamp_ms));
        }
        if (kind != NULL) {
            json_object_set_new(o, "control", json_string(kind));
            json_object_set_new(o, "control_offset", json_integer(control.offset.v));
        }
        print_line(o);
    } else {
        printf("%" PRIu64 " term=%" PRIu64 " %s offset=%" PRId64 " bytes=%u at=%s:%" PRIu64,
               f->index.v, f->term.v, type_names[f->type], f->base_offset.v, f->len, e->file,
               e->at);
        if (batch) {
            printf(" records=%u time_ms=%" PRId64, info.record_count, info.max_timestamp_ms);
        }
        if (kind != NULL) {
            printf(" %s=%" PRId64, kind, control.offset.v);
        }
        printf(" checksum=%s\n", crc);
    }
    if (batch && s->args->records) {
        print_records(s, e);
    }
}

static void on_damage(void *data, const char *file, uint64_t at, uint64_t next, const char *what)
{
    struct dump_state *s = data;
    s->damaged++;
    if (s->args->json) {
        print_line(json_pack("{sb ss sI sI ss}", "damage", 1, "file", file, "at", (json_int_t)at,
                             "index", (json_int_t)next, "what", what));
    } else {
        printf("DAMAGE %s: %s (byte %" PRIu64 ")\n", file, what, at);
    }
}

/* "data/log/chat-3/" holds partition 3 of topic chat. */
static void name_topic(struct dump_state *s)
{
    char path[1024];
    (void)snprintf(path, sizeof(path), "%s", s->args->dir);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--) {
        path[n - 1] = '\0';
    }
    const char *name = strrchr(path, '/');
    name = name != NULL ? name + 1 : path;
    const char *dash = strrchr(name, '-');
    uint64_t partition = 0;
    if (dash != NULL && cli_parse_u64(dash + 1, 0, UINT32_MAX, &partition)) {
        s->partition = (uint32_t)partition;
    }
    (void)snprintf(s->topic, sizeof(s->topic), "%.*s",
                   (int)(dash != NULL ? (size_t)(dash - name) : strlen(name)), name);
}

int log_dump_command(int argc, char **argv)
{
    struct arguments args = {0};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "DIR",
        .doc = "Shows every entry in the folder of a partition (node.data/log/TOPIC-PARTITION) of "
               "a node that is stopped, and every place that is damaged. Changes nothing."
               "\v" CLI_EXIT_HELP,
    };
    argp_parse(&argp, argc, argv, 0, NULL, &args);
    struct cli_loop loop;
    struct error err = {0};
    enum cli_exit status = cli_loop_open(&loop);
    if (status != CLI_OK) {
        return status;
    }
    struct dump_state s = {.args = &args};
    name_topic(&s);
    struct dump_events events = {&s, on_entry, on_damage};
    int rc = log_dump(loop.env, args.dir, args.from, &events, &err);
    cli_loop_close(&loop);
    if (rc != 0) {
        return cli_fail(CLI_FAILED, "%s", err.text);
    }
    if (!args.json) {
        printf("%" PRIu64 " entries, %" PRIu64 " damaged places\n", s.entries, s.damaged);
    }
    return s.damaged > 0 ? CLI_DIFFERENT : CLI_OK;
}
