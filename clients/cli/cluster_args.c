/* Where the cluster is: from a node's configuration, or from lists on the command line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"

#define TIMEOUT_MS_DEFAULT 10000

enum {
    KEY_CONFIG = 0x1000,
    KEY_BROKERS,
    KEY_HTTP,
    KEY_SECRET_FILE,
    KEY_TLS,
    KEY_JSON,
    KEY_TIMEOUT,
};

static const struct argp_option options[] = {
    {0, 0, 0, 0, "The cluster:", 100},
    {"config", KEY_CONFIG, "FILE", 0, "Configuration of any of its nodes (default: $WEIR_CONFIG)",
     0},
    {"brokers", KEY_BROKERS, "HOST:PORT,...", 0, "Instead of --config: brokers", 0},
    {"http", KEY_HTTP, "HOST:PORT,...", 0,
     "Instead of --config: HTTP addresses; with --tls those of internal=", 0},
    {"secret-file", KEY_SECRET_FILE, "FILE", 0, "Instead of --config: holds the cluster secret", 0},
    {"tls", KEY_TLS, "CA,CERT,KEY", 0, "Instead of --config: PEM files, when nodes speak TLS", 0},
    {"timeout", KEY_TIMEOUT, "MS", 0, "Longest wait for an answer, milliseconds (10000)", 0},
    {"json", KEY_JSON, 0, 0, "Print JSON", 0},
    {0},
};

static bool parse_tls(const char *text, struct cli_cluster *c)
{
    char *const files[] = {c->tls_ca, c->tls_cert, c->tls_key};
    for (unsigned i = 0; i < 3; i++) {
        size_t n = strcspn(text, ",");
        if (n == 0 || n >= CONFIG_PATH_MAX || (text[n] == ',') != (i < 2)) {
            return false;
        }
        memcpy(files[i], text, n);
        files[i][n] = '\0';
        text += n + 1;
    }
    return true;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct cli_cluster *c = state->input;
    uint64_t v = 0;
    switch (key) {
    case KEY_CONFIG:
        c->config_path = arg;
        return 0;
    case KEY_BROKERS:
        c->brokers_text = arg;
        return 0;
    case KEY_HTTP:
        c->http_text = arg;
        return 0;
    case KEY_SECRET_FILE:
        c->secret_path = arg;
        return 0;
    case KEY_TLS:
        if (!parse_tls(arg, c)) {
            argp_error(state, "--tls: '%s' is not three files, CA,CERT,KEY", arg);
            return EINVAL;
        }
        return 0;
    case KEY_TIMEOUT:
        if (!cli_parse_u64(arg, 1, 3600000, &v)) {
            argp_error(state, "--timeout: '%s' is not a number of milliseconds", arg);
            return EINVAL;
        }
        c->timeout_ms = (uint32_t)v;
        return 0;
    case KEY_JSON:
        c->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp cli_cluster_argp = {.options = options, .parser = parse};
const struct argp_child cli_cluster_children[] = {{&cli_cluster_argp, 0, NULL, 0}, {0}};

error_t cli_take_word(struct argp_state *state, const char *what, const char **at, const char *arg)
{
    if (*at != NULL) {
        argp_error(state, "one %s, not also '%s'", what, arg);
    }
    *at = arg;
    return 0;
}

static enum cli_exit parse_list(const char *what, const char *text, struct config_address *out,
                                unsigned *ret_n)
{
    unsigned n = 0;
    for (const char *at = text; *at != '\0';) {
        char one[160];
        size_t len = strcspn(at, ",");
        struct error err = {0};
        (void)snprintf(one, sizeof(one), "%.*s", (int)(len < sizeof(one) ? len : sizeof(one)), at);
        if (n == CONFIG_NODES_MAX) {
            return cli_fail(CLI_USAGE, "%s: more than %d addresses", what, CONFIG_NODES_MAX);
        }
        if (config_address_parse(one, &out[n], &err) != 0) {
            return cli_fail(CLI_USAGE, "%s: %s", what, err.text);
        }
        n++;
        at += len + (at[len] == ',' ? 1 : 0);
    }
    *ret_n = n;
    return CLI_OK;
}

static enum cli_exit read_secret(const char *path, char *ret_secret, size_t size)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return cli_fail(CLI_USAGE, "--secret-file %s: %m", path);
    }
    size_t n = fread(ret_secret, 1, size - 1, f);
    bool whole = feof(f) != 0 && ferror(f) == 0;
    (void)fclose(f);
    if (!whole) {
        return cli_fail(CLI_USAGE, "--secret-file %s: unreadable or longer than %zu bytes", path,
                        size - 1);
    }
    ret_secret[n] = '\0';
    ret_secret[strcspn(ret_secret, "\r\n")] = '\0';
    if (ret_secret[0] == '\0') {
        return cli_fail(CLI_USAGE, "--secret-file %s: its first line is empty", path);
    }
    return CLI_OK;
}

static enum cli_exit from_config(struct cli_cluster *c, const char *path)
{
    struct error err = {0};
    struct config *config = calloc(1, sizeof(*config));
    if (config == NULL) {
        return cli_fail(CLI_FAILED, "out of memory");
    }
    if (config_load(path, config, &err) != 0) {
        free(config);
        return cli_fail(CLI_USAGE, "%s", err.text);
    }
    for (unsigned i = 0; i < config->n_nodes; i++) {
        c->brokers[c->n_brokers++] = config->nodes[i].broker;
        c->internal[c->n_http] = *config_internal(config, &config->nodes[i]);
        c->http[c->n_http++] = config->nodes[i].http;
    }
    memcpy(c->secret, config->secret, sizeof(c->secret));
    memcpy(c->tls_ca, config->tls_ca, sizeof(c->tls_ca));
    memcpy(c->tls_cert, config->tls_cert, sizeof(c->tls_cert));
    memcpy(c->tls_key, config->tls_key, sizeof(c->tls_key));
    free(config);
    return CLI_OK;
}

enum cli_exit cli_cluster_resolve(struct cli_cluster *c)
{
    enum cli_exit rv = CLI_OK;
    bool lists = c->brokers_text != NULL || c->http_text != NULL;
    const char *path = c->config_path;
    if (c->timeout_ms == 0) {
        c->timeout_ms = TIMEOUT_MS_DEFAULT;
    }
    if (path == NULL && !lists) {
        path = getenv("WEIR_CONFIG");
    }
    if (path == NULL && !lists) {
        return cli_fail(CLI_USAGE, "where is the cluster? Give --config FILE, set WEIR_CONFIG, or "
                                   "give --brokers with --secret-file");
    }
    if (path != NULL) {
        rv = from_config(c, path);
    } else if (c->secret_path == NULL) {
        rv = cli_fail(CLI_USAGE, "--brokers and --http need --secret-file");
    }
    if (rv == CLI_OK && c->brokers_text != NULL) {
        rv = parse_list("--brokers", c->brokers_text, c->brokers, &c->n_brokers);
    }
    if (rv == CLI_OK && c->http_text != NULL) {
        rv = parse_list("--http", c->http_text, c->http, &c->n_http);
        memcpy(c->internal, c->http, sizeof(c->internal));
    }
    if (rv == CLI_OK && c->secret_path != NULL) {
        rv = read_secret(c->secret_path, c->secret, sizeof(c->secret));
    }
    return rv;
}
