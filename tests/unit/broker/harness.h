/* Three brokers in this process, each on its own thread with its own folder, and a loop for the
 * test's side. */
#ifndef TESTS_BROKER_HARNESS_H
#define TESTS_BROKER_HARNESS_H

#include <uv.h>

#include "base/config.h"
#include "base/env_uv.h"
#include "clients/log/link.h"
#include "clients/log/weir_log.h"
#include "nodes/broker/broker_thread.h"

#define HARNESS_NODES  3
#define HARNESS_SECRET "a secret of the tests"

struct harness {
    char dir[64];
    unsigned n_shards;
    uint16_t peer_port[HARNESS_NODES], broker_port[HARNESS_NODES];
    int ports_fd; /* while it is open no other harness of this machine takes these ports */
    /* Where broker i finds the peer k, from its next configuration on; 0: at peer_port[k]. */
    uint16_t peer_via[HARNESS_NODES][HARNESS_NODES];
    struct config *config[HARNESS_NODES];
    struct broker_threads *broker[HARNESS_NODES]; /* NULL: stopped */
    uv_loop_t loop;
    struct env *env;
    struct env_timer deadline;
    bool timed_out;
};

/* Brokers with topics `one` (1 partition) and `many` (4); `extra` is appended to every
 * configuration. One shard, or as many as WEIR_TEST_SHARDS says. */
void harness_open(struct harness *h, const char *extra);
void harness_open_shards(struct harness *h, unsigned n_shards, const char *extra);
void harness_close(struct harness *h);
void harness_stop_broker(struct harness *h, unsigned i);
/* Its configuration from the next start on. */
void harness_configure(struct harness *h, unsigned i, const char *extra);
void harness_start_broker(struct harness *h, unsigned i);
/* Runs the loop until *flag; fails the test after a generous while, so that a hang has a name. */
void harness_run_until(struct harness *h, const bool *flag);

/* A log client of all three. */
struct weir_client *harness_client(struct harness *h, const struct weir_client_options *options);
void harness_free_client(struct harness *h, struct weir_client *client);
/* One record, acknowledged, or the status. */
int harness_produce(struct harness *h, struct weir_client *client, const char *topic,
                    uint32_t partition);

/* One link to broker i, ready. */
struct broker_link *harness_link(struct harness *h, unsigned i);
struct broker_link *harness_link_shard(struct harness *h, unsigned i, unsigned shard);
void harness_close_link(struct harness *h, struct broker_link *link);

/* A question and its answer, or the error code. The reply's head and attachment are copies in
 * static memory, until the next call. */
struct answer {
    int status;
    char text[ERROR_TEXT_MAX];
    uint32_t leader_id;
    union {
        Weir__BrokerProduced produced;
        Weir__BrokerFetched fetched;
        Weir__BrokerOffsets offsets;
    };
    uint8_t hash[32];
    uint64_t hash_last;
    char failed[ERROR_TEXT_MAX]; /* of a status: replica of `one` */
    uint64_t commit_index;
    struct bytes attachment;
};
void harness_ask(struct harness *h, struct broker_link *link, enum message_type type,
                 const ProtobufCMessage *head, const void *attachment, size_t len,
                 enum message_type expected, struct answer *ret_answer);
/* Index of the broker that leads partition 0 of `one`; waits for it. */
unsigned harness_leader(struct harness *h);
/* Index of the broker that controls the cluster, among those that run; waits for it. */
unsigned harness_controller(struct harness *h);
/* Waits until `meta` says who is who: configurations alone count for nothing from here on. */
void harness_until_founded(struct harness *h);
/* A batch of n records "0".."n-1" in *out. */
void harness_batch(struct bytes *out, unsigned n, size_t value_size);

#endif
