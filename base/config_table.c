#include "base/config_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/shard.h"

#define AT(field) offsetof(struct config, field)

const struct option_spec option_table[] = {
    {"node.name", OPTION_TEXT, AT(node_name), 1, CONFIG_NAME_MAX - 1, NULL,
     "Which cluster.node line is this node."},
    {"node.data", OPTION_TEXT, AT(data_dir), 1, CONFIG_PATH_MAX - 1, NULL,
     "Folder of this node's data; made when absent."},
    {"node.web", OPTION_TEXT, AT(web_dir), 0, CONFIG_PATH_MAX - 1, "",
     "Folder of the built web page; empty serves none."},
    {"node.roles", OPTION_ROLES, AT(roles), 0, 0, "log ingest transcode edge chat api",
     "What this node does."},
    {"cluster.secret", OPTION_TEXT, AT(secret), 16, 255, NULL,
     "Shared by all nodes; proves membership and signs admin commands."},
    {"tls.ca", OPTION_TEXT, AT(tls_ca), 0, CONFIG_PATH_MAX - 1, "",
     "Certificates that those of the other nodes must lead to, PEM; weir cluster certs makes "
     "them."},
    {"tls.cert", OPTION_TEXT, AT(tls_cert), 0, CONFIG_PATH_MAX - 1, "",
     "This node's certificate, PEM; it names the hosts of its cluster.node line."},
    {"tls.key", OPTION_TEXT, AT(tls_key), 0, CONFIG_PATH_MAX - 1, "", "Its key, PEM."},
    {"tls.plain", OPTION_YES, AT(tls_plain), 0, 0, "no",
     "Speak to other nodes and log clients in the clear although they are on other machines."},
    {"cluster.node", OPTION_NODE, AT(nodes), 0, 0, "",
     "One line per node, the same on all: what the others connect to. internal=: where nodes speak "
     "HTTP over TLS; the broker's port and 100 unless given. log=no: one without the log role. "
     "Later changes: weir cluster add and remove."},
    {"cluster.join", OPTION_YES, AT(cluster_join), 0, 0, "no",
     "This node joins a running cluster (weir cluster add) instead of founding one."},
    {"listen.peer", OPTION_ADDRESS, AT(listen.peer), 0, 0, "",
     "Where to listen for other nodes, when not as in this node's line."},
    {"listen.broker", OPTION_ADDRESS, AT(listen.broker), 0, 0, "",
     "Where to listen for log clients, when not as in this node's line."},
    {"listen.http", OPTION_ADDRESS, AT(listen.http), 0, 0, "",
     "Where to serve the page, when not as in this node's line."},
    {"listen.rtmp", OPTION_ADDRESS, AT(listen.rtmp), 0, 0, "",
     "Where to listen for encoders, when not as in this node's line."},
    {"listen.internal", OPTION_ADDRESS, AT(listen.internal), 0, 0, "",
     "Where to listen for other nodes' HTTP over TLS, when not as in this node's line."},
    {"log.topic", OPTION_TOPIC, AT(topics), 0, 0, "",
     "One line per topic; partitions are fixed when the cluster is made."},
    {"log.shards", OPTION_U32, AT(log_shards), 1, SHARDS_MAX, "1",
     "Loop threads of the log role, each with its share of the partitions; shard k listens 1000*k "
     "ports above peer and broker address. The same on all nodes, fixed when the cluster is made."},
    {"log.replicas", OPTION_U32, AT(log_replicas), 1, 7, "3",
     "Nodes that hold a partition; all nodes when there are fewer. Fixed when the cluster is "
     "made."},
    {"log.segment_mib", OPTION_U32, AT(log_segment_mib), 1, 1024, "64",
     "Size at which a segment file is rolled, MiB; reserved on disk beforehand."},
    {"log.inflight_mib", OPTION_U32, AT(log_inflight_mib), 1, 1024, "16",
     "Bytes proposed and not yet committed, per partition, MiB."},
    {"log.node_inflight_mib", OPTION_U32, AT(log_node_inflight_mib), 1, 16384, "256",
     "Bytes proposed and not yet committed, per node, MiB."},
    {"log.batch_kib_max", OPTION_U32, AT(log_batch_kib_max), 1, 16384, "1024",
     "Largest record batch accepted, KiB."},
    {"log.catchup_mib_s", OPTION_U32, AT(log_catchup_mib_s), 0, 65536, "256",
     "What this node's replicas take in together while they catch up from segments, MiB a second; "
     "0: "
     "no bound."},
    {"log.compact_mib_s", OPTION_U32, AT(log_compact_mib_s), 0, 65536, "32",
     "What this node reads and writes, all partitions together, to compact topics, MiB a second; "
     "0: "
     "no bound."},
    {"log.free_mib_min", OPTION_U32, AT(log_free_mib_min), 1, 1048576, "256",
     "Free disk, MiB, below which a node leads only what nobody else can, and refuses produce."},
    {"log.scrub_mib_s", OPTION_U32, AT(log_scrub_mib_s), 0, 4096, "8",
     "Speed at which a node reads through its logs to find damage, MiB a second; 0: only when "
     "asked (weir log scrub)."},
    {"log.group_retain_ms", OPTION_U32, AT(log_group_retain_ms), 1000, UINT32_MAX, "604800000",
     "How long the offsets of a consumer group without members are kept, ms."},
    {"raft.heartbeat_ms", OPTION_U32, AT(raft_heartbeat_ms), 5, 10000, "50",
     "Interval of a leader's heartbeats, ms."},
    {"raft.election_ms", OPTION_U32, AT(raft_election_ms), 20, 60000, "500",
     "Silence after which a leader is thought dead, ms; at least 4 heartbeats."},
    {"media.part_ms", OPTION_U32, AT(media_part_ms), 100, 2000, "500", "Length of a part, ms."},
    {"media.segment_ms", OPTION_U32, AT(media_segment_ms), 500, 10000, "2000",
     "Length of a segment, ms; at least one part."},
    {"media.window_segments", OPTION_U32, AT(media_window_segments), 3, 1000, "6",
     "Segments in a live playlist."},
    {"media.grace_ms", OPTION_U32, AT(media_grace_ms), 3000, 600000, "30000",
     "How long a broadcast waits for its encoder to come back, ms."},
    {"media.replicas", OPTION_U32, AT(media_replicas), 1, CONFIG_NODES_MAX, "2",
     "Nodes that store each part before it is announced; at most the number of nodes."},
    {"media.rung_height", OPTION_U32, AT(media_rung_height), 0, 2160, "360",
     "Height of the transcoded lower rendition, pixels; 0 makes none."},
    {"media.repair_mib_s", OPTION_U32, AT(media_repair_mib_s), 0, 65536, "64",
     "What this node fetches from others to have its copies of media whole again, MiB a second; 0: "
     "as fast as it goes."},
    {"media.scrub_mib_s", OPTION_U32, AT(media_scrub_mib_s), 0, 4096, "8",
     "Speed at which a node reads through its copies of media to find damage, MiB a second; 0: "
     "never."},
    {"media.lost_ms", OPTION_U32, AT(media_lost_ms), 10000, 86400000, "600000",
     "A node that is silent for so long, ms, has its copies of media made anew on others."},
    {"chat.rate_ms", OPTION_U32, AT(chat_rate_ms), 0, 3600000, "1000",
     "Least time between two messages of one user, ms."},
    {"chat.ring_messages", OPTION_U32, AT(chat_ring_messages), 16, 65536, "512",
     "Recent messages kept ready per room."},
    {"chat.ring_kib", OPTION_U32, AT(chat_ring_kib), 16, 65536, "512",
     "Memory for them per room, KiB."},
    {"chat.connections_max", OPTION_U32, AT(chat_connections_max), 1, 1000000, "20000",
     "Chat connections of this node; more are refused."},
    {"logging.level", OPTION_LEVEL, AT(log_level), 0, 0, "info",
     "Least urgent events that are logged."},
};
const size_t option_table_len = sizeof(option_table) / sizeof(option_table[0]);

const struct role_name role_names[] = {
    {"log", CONFIG_ROLE_LOG},
    {"ingest", CONFIG_ROLE_INGEST},
    {"transcode", CONFIG_ROLE_TRANSCODE},
    {"edge", CONFIG_ROLE_EDGE},
    {"chat", CONFIG_ROLE_CHAT},
    {"api", CONFIG_ROLE_API},
};
const size_t role_names_len = sizeof(role_names) / sizeof(role_names[0]);

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* Decimal digits only. */
static int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value,
                     struct error *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0') {
        return error_set(err, WEIR_ECONFIG, "'%.40s' is not a whole number", text);
    }
    if (errno != 0 || v < min || v > max) {
        return error_set(err, WEIR_ECONFIG, "%.40s is out of range", text);
    }
    *ret_value = v;
    return 0;
}

static int parse_u32(const char *text, uint32_t min, uint32_t max, uint32_t *ret_value,
                     struct error *err)
{
    uint64_t v = 0;
    int rc = parse_u64(text, min, max, &v, err);
    if (rc == 0) {
        *ret_value = (uint32_t)v;
    }
    return rc;
}

int config_address_parse(const char *text, struct config_address *ret_address, struct error *err)
{
    struct config_address a = {0};
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text) {
        return error_set(err, WEIR_ECONFIG, "'%.80s' is not host:port", text);
    }
    const char *host = text;
    size_t n = (size_t)(colon - text);
    if (host[0] == '[' && n > 2 && host[n - 1] == ']') { /* [::1]:80 */
        host++;
        n -= 2;
    } else if (memchr(host, ':', n) != NULL) {
        return error_set(err, WEIR_ECONFIG, "'%.80s': an IPv6 host is written [host]:port", text);
    }
    if (n >= sizeof(a.host) || strcspn(host, " \t,/") < n) {
        return error_set(err, WEIR_ECONFIG, "'%.80s': not a host name", text);
    }
    memcpy(a.host, host, n);
    uint32_t port = 0;
    if (parse_u32(colon + 1, 1, UINT16_MAX, &port, NULL) != 0) {
        return error_set(err, WEIR_ECONFIG, "'%.80s': the port must be 1 to 65535", text);
    }
    a.port = (uint16_t)port;
    *ret_address = a;
    return 0;
}

/* Cuts the next word off *text; NULL at the end. */
static char *next_word(char **text)
{
    char *p = *text + strspn(*text, " \t,");
    if (*p == '\0') {
        return NULL;
    }
    size_t n = strcspn(p, " \t,");
    *text = p[n] != '\0' ? p + n + 1 : p + n;
    p[n] = '\0';
    return p;
}

/* Names become file names and metric labels. */
static int copy_name(const char *word, char out[CONFIG_NAME_MAX], struct error *err)
{
    size_t n = strlen(word);
    if (n == 0 || n >= CONFIG_NAME_MAX ||
        strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != n) {
        return error_set(err, WEIR_ECONFIG,
                         "'%.80s' is not a name (letters, digits, _ and -, at most %d)", word,
                         CONFIG_NAME_MAX - 1);
    }
    memcpy(out, word, n + 1);
    return 0;
}

static int set_text(const struct option_spec *spec, const char *value, char *out, struct error *err)
{
    size_t n = strlen(value);
    if (n < spec->min || n > spec->max) {
        return error_set(err, WEIR_ECONFIG, "it has %zu characters", n);
    }
    memcpy(out, value, n + 1);
    return 0;
}

static int set_roles(char *value, uint32_t *ret_roles, struct error *err)
{
    uint32_t roles = 0;
    for (char *word; (word = next_word(&value)) != NULL;) {
        size_t i = 0;
        while (i < role_names_len && strcmp(role_names[i].name, word) != 0) {
            i++;
        }
        if (i == role_names_len) {
            return error_set(err, WEIR_ECONFIG, "'%.40s' is not a role", word);
        }
        roles |= role_names[i].bit;
    }
    if (roles == 0) {
        return error_set(err, WEIR_ECONFIG, "no role is named");
    }
    *ret_roles = roles;
    return 0;
}

static int set_yes(const char *value, uint32_t *ret_yes, struct error *err)
{
    bool yes = strcmp(value, "yes") == 0;
    if (!yes && strcmp(value, "no") != 0) {
        return error_set(err, WEIR_ECONFIG, "'%.40s' is neither yes nor no", value);
    }
    *ret_yes = yes;
    return 0;
}

static int set_level(const char *value, uint32_t *ret_level, struct error *err)
{
    for (uint32_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(level_names[i], value) == 0) {
            *ret_level = i;
            return 0;
        }
    }
    return error_set(err, WEIR_ECONFIG, "'%.40s' is not a level", value);
}

/* One `key=value` word of a cluster.node line. */
static int set_node_field(struct config_node *node, char *word, uint32_t *seen, struct error *err)
{
    const struct {
        const char *key;
        struct config_address *address;
    } fields[] = {{"id", NULL},
                  {"peer", &node->peer},
                  {"broker", &node->broker},
                  {"http", &node->http},
                  {"rtmp", &node->rtmp},
                  {"log", NULL},
                  {"internal", &node->internal}};
    char *value = strchr(word, '=');
    if (value == NULL) {
        return error_set(err, WEIR_ECONFIG, "'%.80s' has no =", word);
    }
    *value++ = '\0';
    for (uint32_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(fields[i].key, word) != 0) {
            continue;
        }
        if ((*seen & 1U << i) != 0) {
            return error_set(err, WEIR_ECONFIG, "%s= is given twice", word);
        }
        *seen |= 1U << i;
        if (fields[i].address != NULL) {
            return config_address_parse(value, fields[i].address, err);
        }
        if (i == 0) {
            return parse_u32(value, 1, 0x80000000U, &node->id, err);
        }
        uint32_t log = 1;
        int rc = set_yes(value, &log, err);
        node->no_log = log == 0;
        return rc;
    }
    return error_set(err, WEIR_ECONFIG, "%.40s= is unknown", word);
}

static int add_node(char *value, struct config *config, struct error *err)
{
    struct config_node node = {0};
    uint32_t seen = 0;
    if (config->n_nodes == CONFIG_NODES_MAX) {
        return error_set(err, WEIR_ECONFIG, "more than %d nodes", CONFIG_NODES_MAX);
    }
    char *word = next_word(&value);
    int rc = copy_name(word != NULL ? word : "", node.name, err);
    while (rc == 0 && (word = next_word(&value)) != NULL) {
        rc = set_node_field(&node, word, &seen, err);
    }
    if (rc == 0 && (seen & 0x1f) != 0x1f) {
        rc = error_set(err, WEIR_ECONFIG, "id=, peer=, broker=, http= or rtmp= is missing");
    }
    for (uint32_t i = 0; rc == 0 && i < config->n_nodes; i++) {
        if (strcmp(config->nodes[i].name, node.name) == 0) {
            rc = error_set(err, WEIR_ECONFIG, "node %s is given twice", node.name);
        } else if (config->nodes[i].id == node.id) {
            rc = error_set(err, WEIR_ECONFIG, "id=%u is already that of node %s", node.id,
                           config->nodes[i].name);
        }
    }
    if (rc == 0) {
        config_default_internal(&node);
        config->nodes[config->n_nodes++] = node;
    }
    return rc;
}

/* A hundred years. */
#define RETAIN_MS_MAX 3155760000000ULL

static bool is_among(const char *name, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Weir's own topics whose records are events: each of them counts. */
static bool is_of_events(const char *name)
{
    static const char *const names[] = {"accounts", "chat", "ledger", "lifecycle"};
    return is_among(name, names, sizeof(names) / sizeof(names[0]));
}

/* Weir's own topics whose newest record of a key counts, however old it is. */
static bool is_of_state(const char *name)
{
    static const char *const names[] = {"meta", CONFIG_TOPIC_GROUPS};
    return is_among(name, names, sizeof(names) / sizeof(names[0]));
}

/* What is made of such a topic would be another thing on a node that begins anew. */
static int check_retention(const struct config_topic *topic, struct error *err)
{
    if ((topic->retain_ms != 0 || topic->retain_mib != 0) &&
        (is_of_events(topic->name) || is_of_state(topic->name))) {
        return error_set(err, WEIR_ECONFIG,
                         "%s is kept for ever: no retain_ms= or retain_mib=", topic->name);
    }
    return 0;
}

/* "retain_ms=5" and the like. */
static int set_topic_field(struct config_topic *topic, char *word, struct error *err)
{
    char *value = strchr(word, '=');
    if (value == NULL) {
        return error_set(err, WEIR_ECONFIG, "'%.40s' is too much", word);
    }
    *value++ = '\0';
    if (strcmp(word, "retain_ms") == 0) {
        int rc = parse_u64(value, 1, RETAIN_MS_MAX, &topic->retain_ms, err);
        return rc == 0 ? check_retention(topic, err) : rc;
    }
    if (strcmp(word, "retain_mib") == 0) {
        int rc = parse_u64(value, 1, UINT32_MAX, &topic->retain_mib, err);
        return rc == 0 ? check_retention(topic, err) : rc;
    }
    if (strcmp(word, "tombstone_ms") == 0) {
        return parse_u64(value, 1, RETAIN_MS_MAX, &topic->tombstone_ms, err);
    }
    if (strcmp(word, "compact") == 0) {
        if (strcmp(value, "yes") == 0 && is_of_events(topic->name)) {
            return error_set(err, WEIR_ECONFIG, "%s holds events and can't be compacted",
                             topic->name);
        }
        return set_yes(value, &topic->compact, err);
    }
    return error_set(err, WEIR_ECONFIG, "%.40s= is unknown", word);
}

static int add_topic(char *value, struct config *config, struct error *err)
{
    static const char key[] = "partitions=";
    struct config_topic topic = {0};
    if (config->n_topics == CONFIG_TOPICS_MAX) {
        return error_set(err, WEIR_ECONFIG, "more than %d topics", CONFIG_TOPICS_MAX);
    }
    char *word = next_word(&value);
    int rc = copy_name(word != NULL ? word : "", topic.name, err);
    if (rc != 0) {
        return rc;
    }
    topic.compact =
        strcmp(topic.name, CONFIG_TOPIC_META) == 0 || strcmp(topic.name, CONFIG_TOPIC_GROUPS) == 0;
    word = next_word(&value);
    if (word == NULL || strncmp(word, key, sizeof(key) - 1) != 0) {
        return error_set(err, WEIR_ECONFIG, "partitions= is missing");
    }
    rc = parse_u32(word + sizeof(key) - 1, 1, 1024, &topic.partitions, err);
    while (rc == 0 && (word = next_word(&value)) != NULL) {
        rc = set_topic_field(&topic, word, err);
    }
    for (uint32_t i = 0; rc == 0 && i < config->n_topics; i++) {
        if (strcmp(config->topics[i].name, topic.name) == 0) {
            rc = error_set(err, WEIR_ECONFIG, "topic %s is given twice", topic.name);
        }
    }
    if (rc == 0) {
        config->topics[config->n_topics++] = topic;
    }
    return rc;
}

int option_set(const struct option_spec *spec, char *value, struct config *config,
               struct error *err)
{
    void *at = (char *)config + spec->at;
    switch (spec->type) {
    case OPTION_TEXT:
        return set_text(spec, value, at, err);
    case OPTION_U32:
        return parse_u32(value, spec->min, spec->max, at, err);
    case OPTION_ADDRESS:
        return config_address_parse(value, at, err);
    case OPTION_ROLES:
        return set_roles(value, at, err);
    case OPTION_YES:
        return set_yes(value, at, err);
    case OPTION_LEVEL:
        return set_level(value, at, err);
    case OPTION_NODE:
        return add_node(value, config, err);
    case OPTION_TOPIC:
        return add_topic(value, config, err);
    }
    return WEIR_EINVAL;
}

void option_expects(const struct option_spec *spec, char *out, size_t out_size)
{
    switch (spec->type) {
    case OPTION_TEXT:
        (void)snprintf(out, out_size, "%u to %u characters", spec->min, spec->max);
        break;
    case OPTION_U32:
        (void)snprintf(out, out_size, "%u to %u", spec->min, spec->max);
        break;
    case OPTION_ADDRESS:
        (void)snprintf(out, out_size, "host:port");
        break;
    case OPTION_ROLES:
        (void)snprintf(out, out_size, "some of log ingest transcode edge chat api");
        break;
    case OPTION_YES:
        (void)snprintf(out, out_size, "yes or no");
        break;
    case OPTION_LEVEL:
        (void)snprintf(out, out_size, "error, warn, info or debug");
        break;
    case OPTION_NODE:
        (void)snprintf(out, out_size,
                       "NAME id=1..2147483648 peer=H:P broker=H:P http=H:P rtmp=H:P [internal=H:P] "
                       "[log=no]");
        break;
    case OPTION_TOPIC:
        (void)snprintf(out, out_size,
                       "NAME partitions=1..1024 [retain_ms=N] [retain_mib=N] [compact=yes|no] "
                       "[tombstone_ms=N]");
        break;
    }
}
