#include "clients/cli/admin.h"
#include "clients/cli/json.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OPTIONS_MAX 12
#define KEY_OF(bit) (0x2000 + (int)(bit))

static const struct {
    unsigned bit;
    const char *name, *arg, *doc;
} options[] = {
    {ADMIN_DISPLAY_NAME, "display-name", "NAME",
     "How the name is written (same letters, any case)"},
    {ADMIN_OWNER, "owner", "USER", "Whose channel it is"},
    {ADMIN_TITLE, "title", "TEXT", "Title of the channel"},
    {ADMIN_TIER, "tier", "1..3", "Tier of the subscription"},
    {ADMIN_KEY, "key", "KEY", "Idempotency key: the same key books once"},
    {ADMIN_MONTHS, "months", "1..12", "Months of 30 days (default 1)"},
    {ADMIN_BY, "by", "USER", "Who gives it as a gift"},
    {ADMIN_CHANNEL, "channel", "CHANNEL", "Only of this channel"},
    {ADMIN_USER, "user", "USER", "Only of this user"},
};
#define N_OPTIONS (sizeof(options) / sizeof(options[0]))

static const char **text_of(struct admin_args *a, unsigned bit)
{
    switch (bit) {
    case ADMIN_DISPLAY_NAME:
        return &a->display_name;
    case ADMIN_OWNER:
        return &a->owner;
    case ADMIN_TITLE:
        return &a->title;
    case ADMIN_KEY:
        return &a->key;
    case ADMIN_CHANNEL:
        return &a->channel;
    case ADMIN_USER:
        return &a->user;
    case ADMIN_BY:
        return &a->by;
    default:
        return NULL;
    }
}

static uint32_t number_of(struct argp_state *state, const char *name, const char *arg, uint64_t max)
{
    uint64_t v = 0;
    if (!cli_parse_u64(arg, 1, max, &v)) {
        argp_error(state, "--%s: '%s' is not a number from 1 to %llu", name, arg,
                   (unsigned long long)max);
    }
    return (uint32_t)v;
}

static void option_set(struct admin_args *a, struct argp_state *state, unsigned bit,
                       const char *arg)
{
    assert(a != NULL);
    const char **text = text_of(a, bit);
    if (text != NULL) {
        *text = arg;
    } else if (bit == ADMIN_TIER) {
        a->tier = number_of(state, "tier", arg, 3);
    } else {
        a->months = number_of(state, "months", arg, 12);
    }
}

static bool option_given(struct admin_args *a, unsigned bit)
{
    const char **text = text_of(a, bit);
    return text != NULL ? *text != NULL : bit == ADMIN_TIER ? a->tier != 0 : a->months != 0;
}

static void check(struct admin_args *a, struct argp_state *state)
{
    if (a->n_words != a->n_words_wanted) {
        argp_error(state, "too few arguments");
    }
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if ((a->required & options[i].bit) != 0 && !option_given(a, options[i].bit)) {
            argp_error(state, "--%s is missing", options[i].name);
        }
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct admin_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->cluster;
        return 0;
    case ARGP_KEY_ARG:
        if (a->n_words == a->n_words_wanted) {
            argp_error(state, "unexpected argument '%s'", arg);
            return EINVAL;
        }
        a->words[a->n_words++] = arg;
        return 0;
    case ARGP_KEY_END:
        check(a, state);
        return 0;
    default:
        break;
    }
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if (key == KEY_OF(options[i].bit)) {
            option_set(a, state, options[i].bit, arg);
            return 0;
        }
    }
    return ARGP_ERR_UNKNOWN;
}

enum cli_exit admin_parse(struct admin_args *args, const char *words_doc, const char *doc, int argc,
                          char **argv)
{
    struct argp_option list[OPTIONS_MAX] = {{0}};
    char text[1024];
    size_t n = 0;
    (void)snprintf(text, sizeof(text), "%s\v" CLI_EXIT_HELP, doc);
    for (size_t i = 0; i < N_OPTIONS; i++) {
        if ((args->options & options[i].bit) != 0) {
            list[n++] = (struct argp_option){.name = options[i].name,
                                             .key = KEY_OF(options[i].bit),
                                             .arg = options[i].arg,
                                             .doc = options[i].doc};
        }
    }
    const struct argp argp = {.options = n > 0 ? list : NULL,
                              .parser = parse,
                              .args_doc = words_doc,
                              .doc = text,
                              .children = cli_cluster_children};
    if (argp_parse(&argp, argc, argv, 0, NULL, args) != 0) {
        return CLI_USAGE;
    }
    return cli_cluster_resolve(&args->cluster);
}

enum cli_exit admin_ask(const struct admin_args *args, const char *method, const char *path,
                        json_t *body, bool repeatable, json_t **ret_answer)
{
    const struct web_ask ask = {
        .method = method, .path = path, .body = body, .repeatable = repeatable, .node = -1};
    json_t *answer = NULL;
    enum cli_exit rv = web_ask(&args->cluster, &ask, &answer);
    json_decref(body);
    *ret_answer = NULL;
    if (rv != CLI_OK) {
        return rv;
    }
    if (args->cluster.json) {
        return cli_print_json(answer);
    }
    *ret_answer = answer;
    return CLI_OK;
}

const char *admin_text(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

json_int_t admin_number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

void admin_day(json_int_t ms, char out[16])
{
    struct tm tm = {0};
    time_t seconds = (time_t)(ms / 1000);
    if (gmtime_r(&seconds, &tm) == NULL || strftime(out, 16, "%Y-%m-%d", &tm) == 0) {
        out[0] = '\0';
    }
}
