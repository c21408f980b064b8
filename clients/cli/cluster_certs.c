/* weir cluster certs: an authority and a certificate for every node of a configuration. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clients/cli/cluster.h"
#include "net/tls_certs.h"

#define DAYS_DEFAULT   3650
#define DAYS_MAX       36500
#define CLIENT_NAME    "client"
#define AUTHORITY_NAME "ca"

enum { KEY_CONFIG = 0x3000, KEY_DAYS };

static const struct argp_option options[] = {
    {"config", KEY_CONFIG, "FILE", 0,
     "Names the nodes and their hosts in cluster.node lines (default: $WEIR_CONFIG)", 0},
    {"days", KEY_DAYS, "N", 0, "Days until the certificates expire (3650)", 0},
    {0},
};

struct arguments {
    const char *config_path, *dir;
    uint64_t days;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    switch (key) {
    case KEY_CONFIG:
        a->config_path = arg;
        return 0;
    case KEY_DAYS:
        if (!cli_parse_u64(arg, 1, DAYS_MAX, &a->days)) {
            argp_error(state, "--days: '%s' is not a whole number from 1 to %d", arg, DAYS_MAX);
            return EINVAL;
        }
        return 0;
    case ARGP_KEY_ARG:
        return cli_take_word(state, "folder", &a->dir, arg);
    case ARGP_KEY_END:
        if (a->dir == NULL) {
            argp_error(state, "which DIR?");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void add_host(struct tls_cert_node *node, const char *host)
{
    for (unsigned i = 0; i < node->n_hosts; i++) {
        if (strcmp(node->hosts[i], host) == 0) {
            return;
        }
    }
    node->hosts[node->n_hosts++] = host;
}

/* One that is there already stays: a node that joins later is added by the same command. */
static enum cli_exit make(const char *dir, const struct tls_cert_node *node, uint64_t days)
{
    struct error err = {0};
    int rv = tls_certs_node(dir, node, (unsigned)days, &err);
    if (rv != 0 && rv != WEIR_EEXISTS) {
        return cli_fail(CLI_FAILED, "%s", err.text);
    }
    printf("%s  %s/%s.pem %s/%s.key\n", rv == 0 ? "made" : "kept", dir, node->name, dir,
           node->name);
    return CLI_OK;
}

static enum cli_exit make_all(const struct arguments *a, const struct config *config)
{
    struct error err = {0};
    bool made = false;
    if (mkdir(a->dir, 0700) != 0 && errno != EEXIST) {
        return cli_fail(CLI_FAILED, "%s: %m", a->dir);
    }
    if (tls_certs_authority(a->dir, (unsigned)a->days, &made, &err) != 0) {
        return cli_fail(CLI_FAILED, "%s", err.text);
    }
    printf("%s  %s/" AUTHORITY_NAME ".pem %s/" AUTHORITY_NAME ".key\n", made ? "made" : "kept",
           a->dir, a->dir);
    enum cli_exit rv = CLI_OK;
    for (uint32_t i = 0; i < config->n_nodes && rv == CLI_OK; i++) {
        const struct config_node *n = &config->nodes[i];
        struct tls_cert_node node = {.name = n->name};
        add_host(&node, n->peer.host);
        add_host(&node, n->broker.host);
        add_host(&node, n->internal.host);
        add_host(&node, n->http.host);
        rv = make(a->dir, &node, a->days);
    }
    const struct tls_cert_node client = {.name = CLIENT_NAME};
    return rv == CLI_OK ? make(a->dir, &client, a->days) : rv;
}

int cluster_certs(int argc, char **argv)
{
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "DIR",
        .doc = "Make what nodes need to speak TLS: an authority of the cluster's own (ca), a "
               "certificate and key for each cluster.node line, and one for commands on other "
               "machines (client), as PEM files in DIR. What is there is kept. Give each node "
               "ca.pem, its own two files, and tls.ca, tls.cert and tls.key; keep ca.key "
               "away from the nodes.\v" CLI_EXIT_HELP,
    };
    struct arguments a = {.days = DAYS_DEFAULT};
    struct error err = {0};
    if (argp_parse(&argp, argc, argv, 0, NULL, &a) != 0) {
        return CLI_USAGE;
    }
    const char *path = a.config_path != NULL ? a.config_path : getenv("WEIR_CONFIG");
    struct config *config = calloc(1, sizeof(*config));
    enum cli_exit rv = CLI_OK;
    if (path == NULL) {
        rv = cli_fail(CLI_USAGE, "which nodes? Give --config FILE or set WEIR_CONFIG");
    } else if (config == NULL) {
        rv = cli_fail(CLI_FAILED, "out of memory");
    } else if (config_load(path, config, &err) != 0) {
        rv = cli_fail(CLI_USAGE, "%s", err.text);
    } else {
        rv = make_all(&a, config);
    }
    free(config);
    return (int)rv;
}
