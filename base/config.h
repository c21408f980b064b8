/* Node configuration: one table of options (base/config_table.c), text files of `name = value`
 * lines, `#` comments. A wrong name, type, range or repeated option is an error that names file,
 * line, option and what was expected. Lists (cluster.node, log.topic) are repeated lines. Read once
 * at start; immutable afterwards; any thread may read. */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define CONFIG_NODES_MAX  16
#define CONFIG_TOPICS_MAX 32
#define CONFIG_NAME_MAX   64
#define CONFIG_PATH_MAX   512

/* host:port; host is numeric or a name, port 1..65535. */
struct config_address {
    char host[128];
    uint16_t port;
};

/* cluster.node = n1 id=1 peer=127.0.0.1:7101 broker=127.0.0.1:7201 http=127.0.0.1:8081
 * rtmp=127.0.0.1:1935 [internal=127.0.0.1:7301] [log=no] What others connect to. A node listens on
 * the addresses of its own line unless listen.* says otherwise. `internal` is where nodes and
 * commands speak HTTP over TLS; without tls.* it is not used. */
#define CONFIG_INTERNAL_ABOVE_BROKER 100
struct config_node {
    char name[CONFIG_NAME_MAX];
    uint32_t id; /* 1..2^31; the Raft server id */
    struct config_address peer, broker, http, rtmp, internal;
    bool no_log; /* log=no: without the log role */
    /* Not from the file: the front loop's copy follows the cluster (nodes/directory.h). */
    enum config_standing { CONFIG_NODE_IN, CONFIG_NODE_DRAINING, CONFIG_NODE_GONE } standing;
};

/* Consumer groups' offsets and named producers; written by brokers only. Added with 4 partitions
 * when no log.topic line names it. */
#define CONFIG_TOPIC_GROUPS "groups"
/* Nodes and placements: what the cluster is (nodes/broker/cluster.h). */
#define CONFIG_TOPIC_META "meta"

/* log.topic = chat partitions=8 [retain_ms=N] [retain_mib=N] [compact=yes|no]
 * [tombstone_ms=N]. `meta` and `groups`
 * are compacted unless the line says no; topics of events (docs/decisions/0220) never are. */
struct config_topic {
    char name[CONFIG_NAME_MAX];
    uint32_t partitions;   /* 1..1024 */
    uint64_t retain_ms;    /* records older than that go; 0: never */
    uint64_t retain_mib;   /* of a partition; the oldest go beyond it; 0: never */
    uint32_t compact;      /* 1: only the newest record of each key is kept */
    uint64_t tombstone_ms; /* so long compaction keeps null values at least; 0: a day */
};

enum config_role {
    CONFIG_ROLE_LOG = 1,
    CONFIG_ROLE_INGEST = 2,
    CONFIG_ROLE_TRANSCODE = 4,
    CONFIG_ROLE_EDGE = 8,
    CONFIG_ROLE_CHAT = 16,
    CONFIG_ROLE_API = 32,
    CONFIG_ROLE_ALL = 63,
};

struct config {
    char node_name[CONFIG_NAME_MAX]; /* node.name: which cluster.node line is this node */
    char data_dir[CONFIG_PATH_MAX];  /* node.data */
    char web_dir[CONFIG_PATH_MAX];   /* node.web: built page; "" serves none */
    uint32_t roles;                  /* node.roles, a list of names; default all */
    char secret[256]; /* cluster.secret: proves membership between nodes and admin commands */
    /* tls.ca, tls.cert, tls.key: all or none; tls.plain: none although nodes are on other machines
     */
    char tls_ca[CONFIG_PATH_MAX], tls_cert[CONFIG_PATH_MAX], tls_key[CONFIG_PATH_MAX];
    uint32_t tls_plain; /* 1 or 0 */
    /* Where this node listens: its own line's addresses, or listen.peer, .broker, .http, .rtmp,
     * .internal. Name and id as in its line. */
    struct config_node listen;
    struct config_node nodes[CONFIG_NODES_MAX];
    uint32_t n_nodes;
    uint32_t cluster_join; /* this node joins a running cluster instead of founding one */
    struct config_topic topics[CONFIG_TOPICS_MAX];
    uint32_t n_topics;
    /* log */
    uint32_t log_shards;   /* loop threads of the log role (base/shard.h) */
    uint32_t log_replicas; /* of a partition */
    uint32_t log_segment_mib;
    uint32_t log_inflight_mib;      /* bytes proposed and not yet committed, per partition */
    uint32_t log_node_inflight_mib; /* same, per node */
    uint32_t log_batch_kib_max;
    uint32_t log_catchup_mib_s; /* into this node, all replicas together; 0: no bound */
    uint32_t log_compact_mib_s; /* read and written, all replicas together; 0: no bound */
    uint32_t log_free_mib_min;  /* produce is refused below this much free disk */
    uint32_t log_scrub_mib_s;   /* 0: no scrubbing by itself */
    uint32_t log_group_retain_ms;
    /* raft */
    uint32_t raft_heartbeat_ms, raft_election_ms;
    /* media */
    uint32_t media_part_ms, media_segment_ms, media_window_segments, media_grace_ms, media_replicas;
    uint32_t media_rung_height;  /* of the transcoded lower rung */
    uint32_t media_repair_mib_s; /* copies made anew by this node; 0: no bound */
    uint32_t media_scrub_mib_s;  /* 0: no scrubbing */
    uint32_t media_lost_ms;      /* others stand in for a node that is silent for so long */
    /* chat */
    uint32_t chat_rate_ms, chat_ring_messages, chat_ring_kib, chat_connections_max;
    /* logging */
    uint32_t log_level; /* 0 error .. 3 debug */
};

/* Defaults, then the file, then checks across options (own node present, ids and names unique,
 * ...). */
int config_load(const char *path, struct config *ret_config, struct error *err);
/* Same from memory; `name` stands for the path in errors. */
int config_parse(const char *name, const char *text, struct config *ret_config, struct error *err);
/* This node's own line; never NULL after a successful load. */
const struct config_node *config_self(const struct config *config);
const struct config_node *config_node_by_id(const struct config *config, uint32_t id);
/* Nodes and log clients speak TLS. */
bool config_has_tls(const struct config *config);
/* The rule for one that is not given: the broker's host, and its port and 100; port 0 when there is
 * none so high. */
void config_default_internal(struct config_node *node);
/* Where a node answers other nodes' HTTP: `internal` with TLS, else `http`. */
const struct config_address *config_internal(const struct config *config,
                                             const struct config_node *node);
/* "host:port" with a port in 1..65535. */
int config_address_parse(const char *text, struct config_address *ret_address, struct error *err);
/* Every option with its type, range, default and sentence, for `weir node --help-config` and
 * docs/configuration.md. */
void config_print_help(FILE *out);

#endif
