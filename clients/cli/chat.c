/* `weir chat ROOM`: a room in the terminal. Lines of standard input are sent; a broken connection
 * is taken up again at the next node where it was left. */
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/cli.h"
#include "net/ws_client.h"

#define NODES_MAX         16
#define REDIAL_US         500000
#define RESEND_US         1000000
#define HISTORY           20
#define NODE_FAILURES_MAX 20 /* dials in a row without a welcome, before giving up */

enum { KEY_TOKEN = 0x2000, KEY_NODE, KEY_AFTER };

struct chat_cli {
    struct cli_cluster cluster;
    const char *room, *token;
    struct config_address nodes[NODES_MAX];
    unsigned n_nodes, node, failures;
    struct cli_loop loop;
    struct http_client *http;
    struct ws_client *ws;
    struct env_timer redial, resend;
    bool open, authed, joined, no_more_lines;
    int64_t last; /* offset of the last event seen; -2: none yet */
    char *line;   /* being sent; NULL: none */
    char nonce[33];
    pthread_t reader;
    sem_t line_done;
    enum cli_exit status;
};

/* --- Standard input: a thread that hands over one line and waits until it is through
 * ------------------------------- */

struct line {
    struct env_post post;
    struct chat_cli *cli;
    char *text; /* NULL: the end */
};

static void line_send(struct chat_cli *cli);

static void finish(struct chat_cli *cli, enum cli_exit status)
{
    cli->status = status;
    cli_loop_stop(&cli->loop);
}

static void on_line(struct env_post *post)
{
    struct line *line = post->data;
    struct chat_cli *cli = line->cli;
    char *text = line->text;
    free(line);
    if (text == NULL) {
        cli->no_more_lines = true; /* a bad token is still to be told */
        if (cli->authed) {
            finish(cli, cli->status);
        }
        return;
    }
    cli->line = text;
    uint8_t random[16];
    env_random(cli->loop.env, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++) {
        (void)snprintf(cli->nonce + 2 * i, 3, "%02x", random[i]);
    }
    line_send(cli);
}

static void line_done(struct chat_cli *cli)
{
    free(cli->line);
    cli->line = NULL;
    env_timer_stop(&cli->resend);
    (void)sem_post(&cli->line_done);
}

static bool hand_over(struct chat_cli *cli, char *text)
{
    struct line *line = malloc(sizeof(*line));
    if (line == NULL) {
        free(text);
        return false;
    }
    *line = (struct line){.post = {.data = line}, .cli = cli, .text = text};
    env_post(cli->loop.env, &line->post, on_line);
    return true;
}

static void *read_lines(void *arg)
{
    struct chat_cli *cli = arg;
    char *buffer = NULL;
    size_t cap = 0;
    while (getline(&buffer, &cap, stdin) >= 0) {
        buffer[strcspn(buffer, "\r\n")] = '\0';
        if (buffer[0] == '\0') {
            continue;
        }
        char *copy = strdup(buffer);
        if (copy == NULL || !hand_over(cli, copy)) {
            break;
        }
        (void)sem_wait(&cli->line_done);
    }
    free(buffer);
    (void)hand_over(cli, NULL);
    return NULL;
}

/* --- What is said
 * --------------------------------------------------------------------------------------------------
 */

static void say(struct chat_cli *cli, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text != NULL && cli->open) {
        (void)ws_client_send(cli->ws, text, strlen(text));
    }
    free(text);
    json_decref(json);
}

static void on_resend(struct env_timer *timer)
{
    line_send(timer->data);
}

static void line_send(struct chat_cli *cli)
{
    if (cli->line == NULL || !cli->open || !cli->authed) {
        return; /* goes out once that is so */
    }
    json_t *json = json_pack("{s:s, s:s, s:s, s:s}", "type", "send", "room", cli->room, "text",
                             cli->line, "nonce", cli->nonce);
    if (json == NULL) {
        (void)cli_fail(CLI_FAILED, "not sent: the line is not UTF-8");
        line_done(cli);
        return;
    }
    say(cli, json);
}

static void say_join(struct chat_cli *cli)
{
    if (cli->last >= -1) {
        say(cli, json_pack("{s:s, s:s, s:I}", "type", "join", "room", cli->room, "after",
                           (json_int_t)cli->last));
    } else {
        say(cli,
            json_pack("{s:s, s:s, s:i}", "type", "join", "room", cli->room, "history", HISTORY));
    }
}

/* --- What is heard
 * -------------------------------------------------------------------------------------------------
 */

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text != NULL ? text : "";
}

static json_int_t number_of(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

static void print_event(const json_t *json)
{
    char clock[16] = "";
    const char *type = text_of(json, "type");
    time_t at = (time_t)(json_integer_value(json_object_get(json, "time")) / 1000);
    struct tm tm;
    if (localtime_r(&at, &tm) != NULL) {
        (void)strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
    }
    if (strcmp(type, "message") == 0 && json_object_get(json, "deleted_by") != NULL) {
        printf("%s * a message by %s was deleted\n", clock, text_of(json, "display_name"));
    } else if (strcmp(type, "message") == 0) {
        printf("%s %s: %s\n", clock, text_of(json, "display_name"), text_of(json, "text"));
    } else if (strcmp(type, "notice") == 0) {
        printf("%s * %s\n", clock, text_of(json, "text"));
    } else if (strcmp(type, "ban") == 0 || strcmp(type, "unban") == 0) {
        printf("%s * %s was %sned by %s\n", clock, text_of(json, "user"), type,
               text_of(json, "by"));
    } else if (strcmp(type, "slow") == 0 && number_of(json, "seconds") == 0) {
        printf("%s * slow mode is off\n", clock);
    } else if (strcmp(type, "slow") == 0) {
        printf("%s * slow mode: one message every %lld s\n", clock,
               (long long)number_of(json, "seconds"));
    } else if (strcmp(type, "deleted") == 0) {
        printf("%s * a message was deleted by %s\n", clock, text_of(json, "by"));
    }
}

static void on_event(struct chat_cli *cli, const json_t *json)
{
    const json_t *offset = json_object_get(json, "offset");
    if (!cli->cluster.json) {
        print_event(json);
    }
    if (json_is_integer(offset)) {
        cli->last = json_integer_value(offset);
    }
}

static void on_history(struct chat_cli *cli, const json_t *json)
{
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(json, "items"), i, item)
    {
        if (!cli->cluster.json) {
            print_event(item);
        }
    }
}

static void lost(struct chat_cli *cli, int status);

static void on_error(struct chat_cli *cli, const json_t *json)
{
    const char *code = text_of(json, "code");
    bool about_line = cli->line != NULL && strcmp(text_of(json, "nonce"), cli->nonce) == 0;
    json_int_t wait_s = number_of(json, "seconds");
    if (about_line && strcmp(code, "slow_mode") == 0 && wait_s > 0) {
        (void)fprintf(stderr, "weir: %s\n", text_of(json, "message"));
        env_timer_start(&cli->resend, (uint64_t)wait_s * 1000000, on_resend);
        return;
    }
    bool passing = strcmp(code, "rate_limited") == 0 || strcmp(code, "busy") == 0 ||
                   strcmp(code, "unavailable") == 0 || strcmp(code, "unknown_outcome") == 0;
    if (about_line && passing) {
        env_timer_start(&cli->resend, RESEND_US, on_resend);
        return;
    }
    if (!about_line && strcmp(code, "unavailable") == 0) { /* a node that is still starting */
        ws_client_free(cli->ws);
        lost(cli, WEIR_EUNAVAILABLE);
        return;
    }
    (void)cli_fail(CLI_FAILED, "%s", text_of(json, "message"));
    if (about_line) {
        cli->status = CLI_FAILED;
        line_done(cli);
    } else if (!cli->joined || (cli->token != NULL && !cli->authed)) {
        finish(cli, CLI_FAILED);
    }
}

static void on_heard(struct chat_cli *cli, const json_t *json)
{
    const char *type = text_of(json, "type");
    if (strcmp(type, "joined") == 0) {
        cli->joined = true;
        cli->failures = 0;
        cli->last = json_integer_value(json_object_get(json, "offset"));
    } else if (strcmp(type, "authed") == 0) {
        cli->authed = true;
        line_send(cli);
        if (cli->no_more_lines) {
            finish(cli, cli->status);
        }
    } else if (strcmp(type, "history") == 0) {
        on_history(cli, json);
    } else if (strcmp(type, "ack") == 0) {
        if (cli->line != NULL && strcmp(text_of(json, "nonce"), cli->nonce) == 0) {
            line_done(cli);
        }
    } else if (strcmp(type, "lagged") == 0) {
        say_join(cli);
    } else if (strcmp(type, "error") == 0) {
        on_error(cli, json);
    } else if (strcmp(type, "welcome") != 0) {
        on_event(cli, json);
    }
}

static void on_message(void *data, struct ws_client *ws, const char *text, size_t n)
{
    struct chat_cli *cli = data;
    (void)ws;
    if (cli->cluster.json) {
        printf("%s\n", text);
    }
    json_t *json = json_loadb(text, n, 0, NULL);
    if (json != NULL) {
        on_heard(cli, json);
    }
    json_decref(json);
    (void)fflush(stdout);
}

/* --- The connection
 * ------------------------------------------------------------------------------------------------
 */

static void on_opened(void *data, struct ws_client *ws)
{
    struct chat_cli *cli = data;
    cli->ws = ws;
    cli->open = true;
    if (cli->token != NULL) {
        say(cli, json_pack("{s:s, s:s}", "type", "auth", "token", cli->token));
    }
    say_join(cli);
}

static void dial(struct chat_cli *cli);

static void on_redial(struct env_timer *timer)
{
    dial(timer->data);
}

static void lost(struct chat_cli *cli, int status)
{
    const struct config_address *a = &cli->nodes[cli->node];
    bool was_in = cli->joined;
    cli->ws = NULL;
    cli->open = false;
    cli->authed = false;
    cli->joined = false;
    if (++cli->failures > NODE_FAILURES_MAX) {
        finish(cli, cli_fail(CLI_UNAVAILABLE, "no node answers; the last was %s:%u: %s", a->host,
                             a->port, status > 0 ? "not a chat gateway" : error_name(status)));
        return;
    }
    cli->node = (cli->node + 1) % cli->n_nodes;
    env_timer_start(&cli->redial, was_in ? 0 : REDIAL_US, on_redial);
}

static void on_closed(void *data, struct ws_client *ws, int status)
{
    (void)ws;
    lost(data, status);
}

static void dial(struct chat_cli *cli)
{
    const struct config_address *a = &cli->nodes[cli->node];
    const struct ws_client_events events = {
        .data = cli, .opened = on_opened, .message = on_message, .closed = on_closed};
    struct error err;
    if (ws_client_dial(cli->http, a->host, a->port, "/chat", "weir.chat.v1", &events, &cli->ws,
                       &err) < 0) {
        finish(cli, cli_fail(CLI_FAILED, "%s", err.text));
    }
}

/* --- Command
 * -------------------------------------------------------------------------------------------------------
 */

static error_t add_node(struct chat_cli *cli, const char *text, struct argp_state *state)
{
    char address[160];
    const char *from = strncmp(text, "http://", 7) == 0 ? text + 7 : text;
    struct error err;
    (void)snprintf(address, sizeof(address), "%.*s", (int)strcspn(from, "/"), from);
    if (cli->n_nodes == NODES_MAX) {
        argp_error(state, "more than %d nodes", NODES_MAX);
        return ARGP_ERR_UNKNOWN;
    }
    if (config_address_parse(address, &cli->nodes[cli->n_nodes], &err) != 0) {
        argp_error(state, "--node: %s", err.text);
        return ARGP_ERR_UNKNOWN;
    }
    cli->n_nodes++;
    return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct chat_cli *cli = state->input;
    uint64_t v = 0;
    switch (key) {
    case KEY_TOKEN:
        cli->token = arg;
        return 0;
    case KEY_NODE:
        return add_node(cli, arg, state);
    case KEY_AFTER:
        if (!cli_parse_u64(arg, 0, INT64_MAX - 1, &v)) {
            argp_error(state, "--after: '%s' is not an offset", arg);
        }
        cli->last = (int64_t)v;
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &cli->cluster;
        return 0;
    case ARGP_KEY_ARG:
        if (cli->room != NULL) {
            argp_error(state, "one room");
        }
        cli->room = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which room?");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static enum cli_exit find_nodes(struct chat_cli *cli)
{
    if (cli->n_nodes > 0) {
        return CLI_OK;
    }
    enum cli_exit rv = cli_cluster_resolve(&cli->cluster);
    for (unsigned i = 0; rv == CLI_OK && i < cli->cluster.n_http && i < NODES_MAX; i++) {
        cli->nodes[cli->n_nodes++] = cli->cluster.http[i];
    }
    if (rv == CLI_OK && cli->n_nodes == 0) {
        return cli_fail(CLI_USAGE, "which node? Give --node or --config");
    }
    return rv;
}

static void on_interrupt(void *data)
{
    finish(data, CLI_OK);
}

static enum cli_exit run(struct chat_cli *cli)
{
    enum cli_exit rv = cli_loop_open(&cli->loop);
    if (rv != CLI_OK) {
        return rv;
    }
    struct error err;
    if (http_client_new(cli->loop.env, &cli->http, &err) < 0 ||
        env_timer_init(cli->loop.env, &cli->redial) < 0 ||
        env_timer_init(cli->loop.env, &cli->resend) < 0 || sem_init(&cli->line_done, 0, 0) != 0) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    cli->redial.data = cli;
    cli->resend.data = cli;
    dial(cli);
    /* Without a token nothing can be sent, and the room is read until the command is stopped. */
    bool reads = cli->token != NULL && pthread_create(&cli->reader, NULL, read_lines, cli) == 0;
    cli_loop_run(&cli->loop, on_interrupt, cli);
    if (reads) {
        (void)fflush(stdout);
        _Exit((int)cli->status); /* the reader may stand in a read that never ends */
    }
    if (cli->ws != NULL) {
        ws_client_free(cli->ws);
    }
    env_timer_close(&cli->redial);
    env_timer_close(&cli->resend);
    http_client_free(cli->http);
    cli_loop_close(&cli->loop);
    return cli->status;
}

static int cli_chat(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"token", KEY_TOKEN, "TOKEN", 0, "Write as its user (default: $WEIR_TOKEN, else only read)",
         0},
        {"node", KEY_NODE, "URL", 0,
         "http://HOST:PORT of a node; repeat it for others to turn to (default: the cluster's)", 0},
        {"after", KEY_AFTER, "OFFSET", 0, "Begin behind this event instead of with the newest", 0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "ROOM",
        .doc = "Show the chat of ROOM, and send the lines of standard input; the end of input ends "
               "it once all lines are acknowledged. With --json every message of the gateway is "
               "one line.\v" CLI_EXIT_HELP,
        .children = cli_cluster_children,
    };
    struct chat_cli cli = {.last = -2, .token = getenv("WEIR_TOKEN")};
    if (argp_parse(&argp, argc, argv, 0, NULL, &cli) != 0) {
        return CLI_USAGE;
    }
    enum cli_exit rv = find_nodes(&cli);
    return (int)(rv == CLI_OK ? run(&cli) : rv);
}

const struct cli_command cli_chat_commands[] = {{"", "ROOM", cli_chat}, {0}};
