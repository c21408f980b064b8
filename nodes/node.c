#include "nodes/node.h"

#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/env_loop.h"
#include "base/logging.h"
#include "base/metrics.h"
#include "net/tls.h"
#include "nodes/broker/broker_thread.h"
#include "nodes/data_dir.h"
#include "nodes/services.h"

#define METRICS_BYTES_MAX (4u << 20)
#define EXIT_USAGE        2
#define NODES_MIN         3 /* of which any one may fail */

enum node_phase { NODE_RUNNING, NODE_STOPPING_ROLES, NODE_STOPPING_HTTP };

struct process {
    struct config config; /* as it was read: the log role's */
    struct config front;  /* the front loop's: its nodes follow the cluster */
    struct env_loop *loop;
    struct node node;
    struct services *services;
    struct broker_threads *broker;
    struct tls_net *tls; /* NULL: nodes speak in the clear */
    int lock_fd;
    enum node_phase phase;
    bool down;
};

/* --- Arguments --- */

enum { KEY_HELP_CONFIG = 0x1000, KEY_CHECK };

struct arguments {
    const char *config_path;
    bool help_config, check;
};

static const struct argp_option options[] = {
    {"config", 'c', "FILE", 0, "Configuration of this node (default: $WEIR_CONFIG)", 0},
    {"check", KEY_CHECK, 0, 0, "Check the configuration and leave", 0},
    {"help-config", KEY_HELP_CONFIG, 0, 0, "Print every option of the configuration", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case 'c':
        a->config_path = arg;
        return 0;
    case KEY_HELP_CONFIG:
        a->help_config = true;
        return 0;
    case KEY_CHECK:
        a->check = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* --- Routes --- */

static void on_healthz(void *data, struct http_exchange *ex)
{
    const struct process *p = data;
    if (p->phase != NODE_RUNNING) {
        http_respond_text(ex, 503, "stopping\n");
    } else if (p->node.views != NULL && !views_ready(p->node.views)) {
        http_respond_text(ex, 503, "the views have not caught up with the log yet\n");
    } else {
        http_respond_text(ex, 200, "ok\n");
    }
}

static void on_metrics(void *data, struct http_exchange *ex)
{
    struct bytes out;
    (void)data;
    bytes_init(&out, METRICS_BYTES_MAX);
    metrics_render(&out);
    if (bytes_error(&out) != 0) {
        http_respond_text(ex, 500, "metrics: %s\n", error_name(bytes_error(&out)));
        bytes_close(&out);
        return;
    }
    /* The body takes the buffer. */
    struct http_body *body = http_body_new(out.data, out.len);
    if (body == NULL) {
        http_respond_text(ex, 500, "metrics: out of memory\n");
        return;
    }
    http_respond(ex, 200, "text/plain; version=0.0.4", "", body);
}

static int serve(struct process *p, const char *option, struct env *sockets,
                 const struct config_address *at, struct http_server **ret_server,
                 struct error *err)
{
    struct error why = {0};
    int rv = http_server_new_over(p->node.env, sockets, at->host, at->port, ret_server, &why);
    return rv == 0 ? 0 : error_set(err, rv, "%s: %.200s", option, why.text);
}

static int http_start(struct process *p, struct error *err)
{
    const struct config_node *listen = &p->config.listen;
    const struct http_route routes[] = {
        {.method = "GET", .path = "/healthz", .handler = on_healthz, .data = p},
        {.method = "GET", .path = "/metrics", .handler = on_metrics, .data = p},
    };
    int rv = serve(p, "listen.http", p->node.env, &listen->http, &p->node.http, err);
    if (rv == 0 && p->node.sockets != NULL) {
        rv =
            serve(p, "listen.internal", p->node.sockets, &listen->internal, &p->node.internal, err);
    }
    return rv == 0 ? node_routes(&p->node, routes, sizeof(routes) / sizeof(routes[0]), err) : rv;
}

/* --- Stopping: roles and services, then HTTP, then the broker --- */

static void on_internal_closed(void *data)
{
    struct process *p = data;
    p->down = true;
}

static void on_http_closed(void *data)
{
    struct process *p = data;
    if (p->node.internal != NULL) {
        http_server_close(p->node.internal, on_internal_closed, p);
    } else {
        on_internal_closed(p);
    }
}

static void on_services_stopped(void *data)
{
    struct process *p = data;
    p->services = NULL;
    p->phase = NODE_STOPPING_HTTP;
    if (p->node.http != NULL) {
        http_server_close(p->node.http, on_http_closed, p);
    } else {
        on_http_closed(p);
    }
}

static void begin_stop(struct process *p)
{
    p->phase = NODE_STOPPING_ROLES;
    if (p->services != NULL) {
        services_stop(p->services, on_services_stopped, p);
    } else {
        on_services_stopped(p);
    }
}

static void on_signal(void *data, int signum)
{
    struct process *p = data;
    if (p->phase == NODE_RUNNING) {
        log_info("node_stopping", "signal=%s", signum == SIGINT ? "INT" : "TERM");
        begin_stop(p);
    } else {
        /* Asked twice: at once. What was acknowledged is on disk. */
        log_warn("node_killed", "signal=%s", signum == SIGINT ? "INT" : "TERM");
        _exit(EXIT_FAILURE);
    }
}

/* SIGHUP: certificates may have been renewed. Connections that stand are not cut. */
static void on_hangup(void *data, int signum)
{
    const struct process *p = data;
    struct error err = {0};
    (void)signum;
    if (p->broker != NULL) {
        broker_reload(p->broker);
    }
    if (p->tls == NULL) {
        return;
    }
    if (tls_net_reload(p->tls, &err) == 0) {
        log_info("tls_reloaded", "links=http");
    } else {
        log_error("tls_reload_failed", "links=http reason=\"%s\"", err.text);
    }
}

/* --- Starting --- */

static int start(struct process *p, struct error *err)
{
    int rv = data_dir_take(p->node.env, &p->config, &p->lock_fd, err);
    if (rv == 0 && config_has_tls(&p->config)) {
        const struct tls_files files = {p->config.tls_ca, p->config.tls_cert, p->config.tls_key};
        rv = tls_net_new(p->node.env, &files, &p->tls, err);
        p->node.sockets = rv == 0 ? tls_net_env(p->tls) : NULL;
    }
    if (rv == 0 && (p->config.roles & CONFIG_ROLE_LOG) != 0) {
        rv = broker_start(&p->config, &p->broker, err);
    }
    if (rv == 0) {
        rv = http_start(p, err);
    }
    if (rv == 0) {
        rv = services_start(&p->node, &p->services, err);
    }
    return rv;
}

/* As many descriptors as we may have: connections, segments, store objects. */
static void raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run(struct process *p)
{
    struct error err = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    raise_limits();
    p->lock_fd = -1;
    p->front = p->config;
    p->node.config = p->node.directory = &p->front;
    p->node.self = config_self(&p->front);
    int rv = env_loop_new(&p->loop, &err);
    if (rv != 0) {
        log_error("node_failed", "reason=\"%s\"", err.text);
        return EXIT_FAILURE;
    }
    p->node.env = env_loop_env(p->loop);
    env_loop_on_signals(p->loop, on_signal, p);
    env_loop_on_hangup(p->loop, on_hangup, p);
    rv = start(p, &err);
    if (rv != 0) {
        log_error("node_failed", "reason=\"%s\"", err.text);
        begin_stop(p);
    } else {
        log_info("node_started", "name=%s id=%u pid=%ld http=%s:%u", p->node.self->name,
                 p->node.self->id, (long)getpid(), p->config.listen.http.host,
                 p->config.listen.http.port);
    }
    env_loop_run_until(p->loop, &p->down);
    if (p->broker != NULL) {
        broker_stop(p->broker);
    }
    env_loop_free(p->loop);
    tls_net_free(p->tls);
    if (p->lock_fd >= 0) {
        (void)close(p->lock_fd);
    }
    log_info("node_stopped", "name=%s", p->node.self->name);
    return rv == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int node_main(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .doc = "Run one node of the cluster until SIGINT or SIGTERM.\v"
               "Exit status: 0 stopped as asked, 1 failed, 2 wrong usage or configuration.",
    };
    struct arguments a = {.config_path = getenv("WEIR_CONFIG")};
    struct error err = {0};
    argp_err_exit_status = EXIT_USAGE;
    if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0) {
        return EXIT_USAGE;
    }
    if (a.help_config) {
        config_print_help(stdout);
        return EXIT_SUCCESS;
    }
    if (a.config_path == NULL) {
        fputs("weir node: give --config FILE or set WEIR_CONFIG\n", stderr);
        return EXIT_USAGE;
    }
    struct process *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        fputs("weir node: out of memory\n", stderr);
        return EXIT_FAILURE;
    }
    int rv = EXIT_SUCCESS;
    if (config_load(a.config_path, &p->config, &err) != 0) {
        fprintf(stderr, "weir node: %s\n", err.text);
        rv = EXIT_USAGE;
    } else if (a.check) {
        printf("%s: good, node %s of %u\n", a.config_path, p->config.node_name, p->config.n_nodes);
    } else {
        log_set_level((enum log_level)p->config.log_level);
        if (p->config.n_nodes < NODES_MIN) {
            log_warn("few_nodes", "nodes=%u enough_to_lose_one=%d", p->config.n_nodes, NODES_MIN);
        }
        rv = run(p);
    }
    free(p);
    return rv;
}
