/* What the commands about users, channels and subscriptions share: their arguments, and asking. */
#ifndef CLIENTS_CLI_ADMIN_H
#define CLIENTS_CLI_ADMIN_H

#include "clients/cli/web.h"

enum admin_option {
    ADMIN_DISPLAY_NAME = 1,
    ADMIN_OWNER = 2,
    ADMIN_TITLE = 4,
    ADMIN_TIER = 8,
    ADMIN_KEY = 16,
    ADMIN_MONTHS = 32,
    ADMIN_CHANNEL = 64,
    ADMIN_USER = 128,
    ADMIN_BY = 256,
};

struct admin_args {
    struct cli_cluster cluster;
    const char *words[2];
    unsigned n_words;
    const char *display_name, *owner, *title, *key, *channel, *user, *by;
    uint32_t tier, months;
    /* What the command takes. */
    unsigned options, required; /* admin_option */
    unsigned n_words_wanted;
};

/* Parses and resolves the cluster. `args` has options, required and n_words_wanted set. Wrong usage
 * ends the process, as argp does. */
enum cli_exit admin_parse(struct admin_args *args, const char *words_doc, const char *doc, int argc,
                          char **argv);
/* Asks, and with --json prints the answer as it is. *ret_answer NULL: nothing more is to be
 * printed. */
enum cli_exit admin_ask(const struct admin_args *args, const char *method, const char *path,
                        json_t *body, bool repeatable, json_t **ret_answer);
/* A string member, "" when absent. */
const char *admin_text(const json_t *object, const char *name);
json_int_t admin_number(const json_t *object, const char *name);
/* Milliseconds of the wall clock as a UTC day, "2026-01-31". */
void admin_day(json_int_t ms, char out[16]);

#endif
