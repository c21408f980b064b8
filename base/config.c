#include "base/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_table.h"
#include "base/shard.h"

#define CONFIG_FILE_MAX (1024 * 1024)
#define CONFIG_LINE_MAX 2048

/* Where the parser stands, for its errors. */
struct parse {
    const char *file;
    unsigned line;
    struct config *config;
    unsigned given[64]; /* line of each option of the table, 0: not yet */
};

static const struct option_spec *option_find(const char *name)
{
    for (size_t i = 0; i < option_table_len; i++) {
        if (strcmp(option_table[i].name, name) == 0) {
            return &option_table[i];
        }
    }
    return NULL;
}

static bool is_list(const struct option_spec *spec)
{
    return spec->type == OPTION_NODE || spec->type == OPTION_TOPIC;
}

static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL) {
        n--;
    }
    s[n] = '\0';
    return s;
}

static int parse_line(struct parse *p, char *line, struct error *err)
{
    char *comment = strchr(line, '#');
    /* A # inside a word (a secret, a path) is not a comment. */
    while (comment != NULL && comment != line && strchr(" \t", comment[-1]) == NULL) {
        comment = strchr(comment + 1, '#');
    }
    if (comment != NULL) {
        *comment = '\0';
    }
    char *name = trim(line);
    if (*name == '\0') {
        return 0;
    }
    char *value = strchr(name, '=');
    if (value == NULL) {
        return error_set(err, WEIR_ECONFIG, "%s:%u: '%.60s': expected name = value", p->file,
                         p->line, name);
    }
    *value++ = '\0';
    name = trim(name);
    value = trim(value);
    const struct option_spec *spec = option_find(name);
    if (spec == NULL) {
        return error_set(err, WEIR_ECONFIG, "%s:%u: %.60s: no such option", p->file, p->line, name);
    }
    unsigned *given = &p->given[spec - option_table];
    if (*given != 0 && !is_list(spec)) {
        return error_set(err, WEIR_ECONFIG, "%s:%u: %s: already given on line %u", p->file, p->line,
                         name, *given);
    }
    *given = p->line;
    struct error why;
    int rc = option_set(spec, value, p->config, &why);
    if (rc != 0) {
        char expects[96];
        option_expects(spec, expects, sizeof(expects));
        return error_set(err, rc, "%s:%u: %s: %s; expected %s", p->file, p->line, name, why.text,
                         expects);
    }
    return 0;
}

static int parse_lines(struct parse *p, const char *text, struct error *err)
{
    while (*text != '\0') {
        char line[CONFIG_LINE_MAX];
        size_t n = strcspn(text, "\n");
        p->line++;
        if (n >= sizeof(line)) {
            return error_set(err, WEIR_ECONFIG, "%s:%u: longer than %d bytes", p->file, p->line,
                             CONFIG_LINE_MAX - 1);
        }
        memcpy(line, text, n);
        line[n] = '\0';
        text += text[n] == '\n' ? n + 1 : n;
        int rc = parse_line(p, line, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static void set_defaults(struct config *config)
{
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option_spec *spec = &option_table[i];
        char value[128];
        size_t n = spec->initial != NULL ? strlen(spec->initial) : 0;
        if (n == 0) {
            continue; /* zero is the empty value of every type */
        }
        assert(n < sizeof(value));
        memcpy(value, spec->initial, n + 1);
        int rc = option_set(spec, value, config, NULL);
        assert(rc == 0);
        (void)rc;
    }
}

static int check_given(const struct parse *p, struct error *err)
{
    for (size_t i = 0; i < option_table_len; i++) {
        if (option_table[i].initial == NULL && p->given[i] == 0) {
            char expects[96];
            option_expects(&option_table[i], expects, sizeof(expects));
            return error_set(err, WEIR_ECONFIG, "%s: %s must be given; expected %s", p->file,
                             option_table[i].name, expects);
        }
    }
    return 0;
}

/* One address that a node is to listen on. */
struct service {
    const char *node, *what, *host;
    uint32_t shard;
    uint16_t port; /* 0: there is no such port */
};
#define SERVICES_MAX (3 + 2 * SHARDS_MAX)

static unsigned node_services(const struct config *c, const struct config_node *node,
                              struct service ret_services[SERVICES_MAX])
{
    uint32_t n_shards = node->no_log ? 1 : c->log_shards;
    const struct {
        const char *what;
        const struct config_address *at;
        uint32_t n;
    } kinds[] = {{"peer", &node->peer, n_shards},
                 {"broker", &node->broker, n_shards},
                 {"http", &node->http, 1},
                 {"rtmp", &node->rtmp, 1},
                 {"internal", &node->internal, config_has_tls(c) ? 1 : 0}};
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        for (uint32_t k = 0; k < kinds[i].n; k++) {
            ret_services[n++] = (struct service){.node = node->name,
                                                 .what = kinds[i].what,
                                                 .host = kinds[i].at->host,
                                                 .shard = k,
                                                 .port = shard_port(kinds[i].at->port, k)};
        }
    }
    return n;
}

static int check_service(const struct parse *p, const struct service *s, const struct service *seen,
                         unsigned n, struct error *err)
{
    if (s->port == 0) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: cluster.node %s: no room above port %s for log.shards %u; expected "
                         "ports of at most %u",
                         p->file, s->node, s->what, p->config->log_shards,
                         UINT16_MAX - SHARD_PORT_STEP * (p->config->log_shards - 1));
    }
    for (unsigned i = 0; i < n; i++) {
        if (seen[i].port != s->port || strcmp(seen[i].host, s->host) != 0) {
            continue;
        }
        if (seen[i].shard == 0 && s->shard == 0) {
            return error_set(err, WEIR_ECONFIG,
                             "%s: cluster.node %s: %s:%u is used twice; expected an address of "
                             "its own for each service",
                             p->file, s->node, s->host, s->port);
        }
        return error_set(err, WEIR_ECONFIG,
                         "%s: log.shards: %s:%u would be %s of %s, shard %u, and %s of %s, shard "
                         "%u; expected ports that leave room for %u shards, %u apart",
                         p->file, s->host, s->port, seen[i].what, seen[i].node, seen[i].shard,
                         s->what, s->node, s->shard, p->config->log_shards, SHARD_PORT_STEP);
    }
    return 0;
}

static bool is_any(const char *host)
{
    return host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static bool hosts_overlap(const char *a, const char *b)
{
    return is_any(a) || is_any(b) || strcmp(a, b) == 0;
}

static int check_addresses(const struct parse *p, struct error *err)
{
    const struct config *c = p->config;
    struct service *seen = calloc(CONFIG_NODES_MAX * SERVICES_MAX, sizeof(*seen));
    unsigned n = 0;
    int rc = seen != NULL ? 0 : error_set(err, WEIR_ENOMEM, "%s: out of memory", p->file);
    for (uint32_t i = 0; i < c->n_nodes && rc == 0; i++) {
        struct service own[SERVICES_MAX];
        unsigned n_own = node_services(c, &c->nodes[i], own);
        for (unsigned k = 0; k < n_own && rc == 0; k++) {
            rc = check_service(p, &own[k], seen, n, err);
            seen[n++] = own[k];
        }
    }
    free(seen);
    return rc;
}

/* What this node itself listens on, once its shards are counted: wherever it does. */
static int check_listen(const char *file, const struct config *c, struct error *err)
{
    struct service own[SERVICES_MAX];
    unsigned n = c->log_shards > 1 ? node_services(c, &c->listen, own) : 0;
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++) {
            if (own[i].port == own[k].port && hosts_overlap(own[i].host, own[k].host)) {
                return error_set(err, WEIR_ECONFIG,
                                 "%s: log.shards: port %u would be listen.%s of shard %u and "
                                 "listen.%s of shard %u; expected ports that leave room for %u "
                                 "shards, %u apart",
                                 file, own[i].port, own[k].what, own[k].shard, own[i].what,
                                 own[i].shard, c->log_shards, SHARD_PORT_STEP);
            }
        }
    }
    return 0;
}

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

/* What nodes say to one another, records and the secret's proofs, stays private: encrypted, or on
 * one machine, unless the operator says otherwise. */
static int check_tls(const struct parse *p, struct error *err)
{
    const struct config *c = p->config;
    int n = (c->tls_ca[0] != 0) + (c->tls_cert[0] != 0) + (c->tls_key[0] != 0);
    if (n != 0 && n != 3) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: tls.ca, tls.cert and tls.key: some are missing; expected all or none",
                         p->file);
    }
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        const struct config_node *node = &c->nodes[i];
        if (n != 0 && node->internal.port == 0) {
            return error_set(err, WEIR_ECONFIG,
                             "%s: cluster.node %s: expected internal=H:P, for there is no port %d "
                             "above that of broker",
                             p->file, node->name, CONFIG_INTERNAL_ABOVE_BROKER);
        }
        if (n != 0 || c->tls_plain != 0) {
            continue;
        }
        if (!is_loopback(node->peer.host) || !is_loopback(node->broker.host)) {
            return error_set(err, WEIR_ECONFIG,
                             "%s: cluster.node %s is on another machine; expected tls.ca, tls.cert "
                             "and tls.key (weir cluster certs makes them), or tls.plain = yes",
                             p->file, node->name);
        }
    }
    return 0;
}

/* Checks across options. */
static int check_whole(const struct parse *p, struct error *err)
{
    const struct config *c = p->config;
    if (c->n_nodes == 0) {
        return error_set(err, WEIR_ECONFIG, "%s: no cluster.node line; expected one per node",
                         p->file);
    }
    bool found = false;
    for (uint32_t i = 0; i < c->n_nodes; i++) {
        found = found || strcmp(c->nodes[i].name, c->node_name) == 0;
    }
    if (!found) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: node.name: no cluster.node line is named %s; expected one of them",
                         p->file, c->node_name);
    }
    const struct config_node *self = config_self(c);
    if (self->no_log != ((c->roles & CONFIG_ROLE_LOG) == 0)) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: node.roles: %s the log role, but this node's cluster.node line says "
                         "%s; expected both to agree",
                         p->file, self->no_log ? "with" : "without",
                         self->no_log ? "log=no" : "nothing of log=no");
    }
    if (c->raft_election_ms < 4 * c->raft_heartbeat_ms) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: raft.election_ms: %u is too short for raft.heartbeat_ms %u; "
                         "expected at least %u",
                         p->file, c->raft_election_ms, c->raft_heartbeat_ms,
                         4 * c->raft_heartbeat_ms);
    }
    if (c->media_segment_ms < c->media_part_ms) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: media.segment_ms: %u is shorter than media.part_ms %u; expected at "
                         "least one part",
                         p->file, c->media_segment_ms, c->media_part_ms);
    }
    if (c->log_inflight_mib * 1024 < c->log_batch_kib_max) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: log.inflight_mib: %u MiB is less than one batch of "
                         "log.batch_kib_max %u KiB",
                         p->file, c->log_inflight_mib, c->log_batch_kib_max);
    }
    if (c->log_shards > 1 &&
        c->log_node_inflight_mib * 1024 / c->log_shards < c->log_batch_kib_max) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: log.node_inflight_mib: a share of %u MiB for each of %u log.shards "
                         "is less than one batch of log.batch_kib_max %u KiB",
                         p->file, c->log_node_inflight_mib, c->log_shards, c->log_batch_kib_max);
    }
    int rc = check_tls(p, err);
    return rc != 0 ? rc : check_addresses(p, err);
}

static void set_listen(struct config *config)
{
    const struct config_node *self = config_self(config);
    struct config_node *listen = &config->listen;
    struct config_node own = *self;
    own.peer = listen->peer.port != 0 ? listen->peer : own.peer;
    own.broker = listen->broker.port != 0 ? listen->broker : own.broker;
    own.http = listen->http.port != 0 ? listen->http : own.http;
    own.rtmp = listen->rtmp.port != 0 ? listen->rtmp : own.rtmp;
    own.internal = listen->internal.port != 0 ? listen->internal : own.internal;
    *listen = own;
}

static void add_topic_line(struct config *config, const char *line)
{
    char value[64];
    assert(strlen(line) < sizeof(value));
    memcpy(value, line, strlen(line) + 1);
    int rc = option_set(option_find("log.topic"), value, config, NULL);
    assert(rc == 0);
    (void)rc;
}

/* A node that is told nothing else has these. */
static void set_default_topics(struct config *config)
{
    static const char *const lines[] = {"chat partitions=8", "lifecycle partitions=8",
                                        "ledger partitions=4", "accounts partitions=1",
                                        "meta partitions=1 compact=yes"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        add_topic_line(config, lines[i]);
    }
}

static bool has_topic(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->n_topics; i++) {
        if (strcmp(config->topics[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Consumer groups and named producers need their topic, whatever else there is. */
static int add_internal_topics(struct config *config, const char *name, struct error *err)
{
    if (has_topic(config, CONFIG_TOPIC_GROUPS)) {
        return 0;
    }
    if (config->n_topics == CONFIG_TOPICS_MAX) {
        return error_set(err, WEIR_ECONFIG,
                         "%s: log.topic: no room for topic " CONFIG_TOPIC_GROUPS
                         "; expected at most %d others",
                         name, CONFIG_TOPICS_MAX - 1);
    }
    add_topic_line(config, CONFIG_TOPIC_GROUPS " partitions=4 compact=yes");
    return 0;
}

int config_parse(const char *name, const char *text, struct config *ret_config, struct error *err)
{
    struct config *config = calloc(1, sizeof(*config));
    if (config == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", name);
    }
    struct parse p = {.file = name, .config = config};
    assert(option_table_len <= sizeof(p.given) / sizeof(p.given[0]));
    set_defaults(config);
    int rc = parse_lines(&p, text, err);
    if (rc == 0) {
        rc = check_given(&p, err);
    }
    if (rc == 0) {
        rc = check_whole(&p, err);
    }
    if (rc == 0) {
        set_listen(config);
        rc = check_listen(name, config, err);
    }
    if (rc == 0) {
        if (config->n_topics == 0) {
            set_default_topics(config);
        }
        rc = add_internal_topics(config, name, err);
    }
    if (rc == 0) {
        if (p.given[option_find("media.replicas") - option_table] == 0 &&
            config->media_replicas > config->n_nodes) {
            config->media_replicas = config->n_nodes;
        }
        if (config->media_replicas > config->n_nodes) {
            rc = error_set(err, WEIR_ECONFIG,
                           "%s: media.replicas: %u is more than there are nodes; expected 1 to %u",
                           name, config->media_replicas, config->n_nodes);
        }
    }
    if (rc == 0) {
        *ret_config = *config;
    }
    free(config);
    return rc;
}

/* The whole file with a zero byte after it; to be freed. */
static int read_file(const char *path, char **ret_text, struct error *err)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return error_errno(err, "open %s", path);
    }
    char *text = malloc(CONFIG_FILE_MAX + 1);
    if (text == NULL) {
        (void)fclose(f);
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", path);
    }
    size_t n = fread(text, 1, CONFIG_FILE_MAX + 1, f);
    int rc = 0;
    if (ferror(f)) {
        rc = error_errno(err, "read %s", path);
    } else if (n > CONFIG_FILE_MAX) {
        rc = error_set(err, WEIR_ECONFIG, "%s: larger than %d bytes", path, CONFIG_FILE_MAX);
    } else if (memchr(text, '\0', n) != NULL) {
        rc = error_set(err, WEIR_ECONFIG, "%s: not a text file", path);
    }
    (void)fclose(f);
    if (rc != 0) {
        free(text);
        return rc;
    }
    text[n] = '\0';
    *ret_text = text;
    return 0;
}

int config_load(const char *path, struct config *ret_config, struct error *err)
{
    char *text = NULL;
    int rc = read_file(path, &text, err);
    if (rc != 0) {
        return rc;
    }
    rc = config_parse(path, text, ret_config, err);
    free(text);
    return rc;
}

bool config_has_tls(const struct config *config)
{
    return config->tls_ca[0] != '\0';
}

void config_default_internal(struct config_node *node)
{
    uint32_t port = node->broker.port + CONFIG_INTERNAL_ABOVE_BROKER;
    if (node->internal.port == 0) {
        node->internal = node->broker;
        node->internal.port = port <= UINT16_MAX ? (uint16_t)port : 0;
    }
}

const struct config_address *config_internal(const struct config *config,
                                             const struct config_node *node)
{
    return config_has_tls(config) ? &node->internal : &node->http;
}

const struct config_node *config_self(const struct config *config)
{
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        if (strcmp(config->nodes[i].name, config->node_name) == 0) {
            return &config->nodes[i];
        }
    }
    return NULL;
}

const struct config_node *config_node_by_id(const struct config *config, uint32_t id)
{
    for (uint32_t i = 0; i < config->n_nodes; i++) {
        if (config->nodes[i].id == id) {
            return &config->nodes[i];
        }
    }
    return NULL;
}

void config_print_help(FILE *out)
{
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option_spec *spec = &option_table[i];
        char expects[96];
        option_expects(spec, expects, sizeof(expects));
        (void)fprintf(out, "%s%s\n    %s\n    takes %s", spec->name,
                      is_list(spec) ? " (repeated)" : "", spec->help, expects);
        if (spec->initial == NULL) {
            (void)fprintf(out, "; must be given\n");
        } else if (spec->initial[0] != '\0') {
            (void)fprintf(out, "; default %s\n", spec->initial);
        } else {
            (void)fprintf(out, "\n");
        }
    }
}
