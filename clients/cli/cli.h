/* The `weir` command's framework: groups of commands in one table (clients/cli/table.c), where the
 * cluster is, exit codes, one loop.
 *
 * To add a group: a file with its commands, `const struct cli_command user_commands[]`, ended by an
 * empty one; its declaration below; a row in table.c. A command parses its own arguments with argp,
 * with cli_cluster_argp among its children, and returns a cli_exit. */
#ifndef CLIENTS_CLI_CLI_H
#define CLIENTS_CLI_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/config.h"
#include "base/env.h"

/* Part of the interface: scripts read them. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_DIFFERENT = 3,   /* `verify` found differences */
    CLI_UNAVAILABLE = 4, /* nobody answered in time, or the outcome is not known */
};
#define CLI_EXIT_HELP                                                                              \
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 verify found differences, 4 no answer from "  \
    "the cluster in time or the outcome is not known."

struct cli_command {
    const char *name;    /* second word; "": the group is itself the command (its only one) */
    const char *summary; /* one line; with "": what follows the group's name */
    /* argv[0] is "weir GROUP NAME", ready for argp_parse. */
    int (*run)(int argc, char **argv);
};

struct cli_group {
    const char *name;    /* first word */
    const char *summary; /* one line */
    const struct cli_command *commands;
};
extern const struct cli_group cli_groups[]; /* ended by an empty one */

extern const struct cli_command cli_log_commands[], cli_cluster_commands[], cli_chat_commands[];
extern const struct cli_command cli_user_commands[], cli_channel_commands[], cli_sub_commands[],
    cli_replay_commands[];

/* The whole command: argv as main got it. Returns the exit status. */
int cli_main(int argc, char **argv);

/* --- Where the cluster is
 * -------------------------------------------------------------------------------------------- */

/* --config FILE (or WEIR_CONFIG): any node's configuration; or --brokers and --http lists with
 * --secret-file. */
struct cli_cluster {
    const char *config_path, *brokers_text, *http_text, *secret_path; /* as given */
    bool json;
    uint32_t timeout_ms; /* of a whole answer; default 10,000 */
    /* Filled by cli_cluster_resolve. */
    struct config_address brokers[CONFIG_NODES_MAX], http[CONFIG_NODES_MAX];
    /* As many as http: where requests with the secret go, over TLS when there are files for it. */
    struct config_address internal[CONFIG_NODES_MAX];
    unsigned n_brokers, n_http;
    char secret[256];
    char tls_ca[CONFIG_PATH_MAX], tls_cert[CONFIG_PATH_MAX],
        tls_key[CONFIG_PATH_MAX]; /* "": plain */
};
/* A child for a command's argp; its input is the struct cli_cluster, zeroed. */
extern const struct argp cli_cluster_argp;
/* It as the only child; ended by an empty one. */
extern const struct argp_child cli_cluster_children[];
/* Reads what was given. On failure the reason is on stderr. */
enum cli_exit cli_cluster_resolve(struct cli_cluster *cluster);

/* --- One loop for a command
 * ------------------------------------------------------------------------------------------ */

struct env_loop;
struct cli_loop {
    struct env *env;
    struct env_loop *loop;
    struct tls_net *tls; /* NULL: nodes are spoken to in the clear */
    struct env *sockets; /* for connections to nodes; NULL: env's own */
    void (*interrupted)(void *data);
    void *data;
    bool stopped;
};
enum cli_exit cli_loop_open(struct cli_loop *loop);
/* Makes loop->sockets encrypted if the cluster's are. On failure the reason is on stderr. */
enum cli_exit cli_loop_tls(struct cli_loop *loop, const struct cli_cluster *cluster);
/* Runs until cli_loop_stop. SIGINT and SIGTERM call `interrupted` (may be NULL: the process ends as
 * usual). */
void cli_loop_run(struct cli_loop *loop, void (*interrupted)(void *data), void *data);
/* From a callback on the loop: cli_loop_run returns. */
void cli_loop_stop(struct cli_loop *loop);
/* Everything on the loop is closed or closing: runs it until all handles are gone. */
void cli_loop_close(struct cli_loop *loop);

/* --- Small things --- */

/* "weir: ..." on stderr; returns `status`. */
enum cli_exit cli_fail(enum cli_exit status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#ifdef __clang_analyzer__
#define cli_fail(status, ...) (cli_fail(status, __VA_ARGS__), (status)) /* see base/error.h */
#endif
/* What a negative WEIR_E or -errno code means for the exit status. */
enum cli_exit cli_exit_of(int code);
/* The one word that a command takes, a `what`; a second one is wrong usage. */
error_t cli_take_word(struct argp_state *state, const char *what, const char **at, const char *arg);
/* Whole number in [min, max] with nothing behind it. */
bool cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);
/* RFC 3339 (2026-01-31T12:00:00Z), or milliseconds since 1970. */
bool cli_parse_time(const char *text, int64_t *ret_ms);

#endif
