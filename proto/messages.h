/* The one table of messages between client and broker: frame type (proto/frame.h), name, and
 * protobuf message of the head. docs/protocol.md tells the conversation. Numbers are on the wire:
 * never renumber. Any thread; no state. */
#ifndef PROTO_MESSAGES_H
#define PROTO_MESSAGES_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"
#include "proto/broker.pb-c.h"
#include "proto/frame.h"

#define BROKER_PROTOCOL_VERSION 1
/* A head larger than this is refused before it is unpacked: what a peer can make us allocate is
 * bounded by it. */
#define MESSAGE_HEAD_MAX (1u << 20)

/* X(type, number, name, message) */
#define MESSAGE_MAP(X)                                                                             \
    X(BROKER_CHALLENGE, 1, "challenge", broker_challenge)                                          \
    X(BROKER_HELLO, 2, "hello", broker_hello)                                                      \
    X(BROKER_WELCOME, 3, "welcome", broker_welcome)                                                \
    X(BROKER_ERROR, 4, "error", broker_error)                                                      \
    X(BROKER_METADATA_REQUEST, 5, "metadata_request", broker_metadata_request)                     \
    X(BROKER_METADATA, 6, "metadata", broker_metadata)                                             \
    X(BROKER_LEADERS, 7, "leaders", broker_leaders)                                                \
    X(BROKER_PRODUCE, 8, "produce", broker_produce)                                                \
    X(BROKER_PRODUCED, 9, "produced", broker_produced)                                             \
    X(BROKER_FETCH, 10, "fetch", broker_fetch)                                                     \
    X(BROKER_FETCHED, 11, "fetched", broker_fetched)                                               \
    X(BROKER_OFFSETS_REQUEST, 12, "offsets_request", broker_offsets_request)                       \
    X(BROKER_OFFSETS, 13, "offsets", broker_offsets)                                               \
    X(BROKER_STATUS_REQUEST, 14, "status_request", broker_status_request)                          \
    X(BROKER_STATUS, 15, "status", broker_status)                                                  \
    X(BROKER_HASH_REQUEST, 16, "hash_request", broker_hash_request)                                \
    X(BROKER_HASH, 17, "hash", broker_hash)                                                        \
    X(BROKER_PING, 18, "ping", broker_ping)                                                        \
    X(BROKER_PONG, 19, "pong", broker_ping)                                                        \
    X(BROKER_INIT_PRODUCER, 20, "init_producer", broker_init_producer)                             \
    X(BROKER_PRODUCER, 21, "producer", broker_producer)                                            \
    X(BROKER_GROUP_POLL, 24, "group_poll", broker_group_poll)                                      \
    X(BROKER_GROUP_ASSIGNED, 25, "group_assigned", broker_group_assigned)                          \
    X(BROKER_GROUP_LEAVE, 26, "group_leave", broker_group_leave)                                   \
    X(BROKER_GROUP_LEFT, 27, "group_left", broker_group_left)                                      \
    X(BROKER_GROUP_COMMIT, 28, "group_commit", broker_group_commit)                                \
    X(BROKER_GROUP_COMMITTED, 29, "group_committed", broker_group_committed)                       \
    X(BROKER_GROUP_OFFSETS_REQUEST, 30, "group_offsets_request", broker_group_offsets_request)     \
    X(BROKER_GROUP_OFFSETS, 31, "group_offsets", broker_group_offsets)                             \
    X(BROKER_GROUP_DESCRIBE_REQUEST, 32, "group_describe_request", broker_group_describe_request)  \
    X(BROKER_GROUPS, 33, "groups", broker_groups)                                                  \
    X(BROKER_CLUSTER_CHANGE, 40, "cluster_change", cluster_change)                                 \
    X(BROKER_CLUSTER_CHANGED, 41, "cluster_changed", cluster_changed)                              \
    X(BROKER_CLUSTER_DESCRIBE, 42, "cluster_describe", cluster_describe)                           \
    X(BROKER_CLUSTER, 43, "cluster", cluster_description)                                          \
    X(BROKER_SCRUB_REQUEST, 70, "scrub_request", broker_scrub_request)                             \
    X(BROKER_SCRUB, 71, "scrub", broker_scrub)

#define X(type, number, name, message) type = number,
enum message_type { MESSAGE_MAP(X) MESSAGE_TYPES };
#undef X

/* "produce"; "unknown" for a number that is not in the table. */
const char *message_name(unsigned type);

/* Head of a frame, unpacked; free with message_free. WEIR_EPROTO when the type is unknown or the
 * head is not that message, WEIR_ETOOBIG, WEIR_ENOMEM. The caller casts *ret_message to the struct
 * of the frame's type. */
int message_unpack(const struct frame *frame, ProtobufCMessage **ret_message, struct error *err);
void message_free(ProtobufCMessage *message); /* NULL is allowed */

/* Appends a whole frame without an attachment to `out`; errors stick in `out`. */
void message_put(struct bytes *out, enum message_type type, uint64_t correlation,
                 const ProtobufCMessage *head);
/* Same with an attachment. */
void message_put_attached(struct bytes *out, enum message_type type, uint64_t correlation,
                          const ProtobufCMessage *head, const void *attachment, size_t len);
/* For an attachment that the caller appends to `out` itself: begin returns where the frame starts;
 * end fills in the header. */
size_t message_begin(struct bytes *out, const ProtobufCMessage *head);
void message_end(struct bytes *out, size_t start, enum message_type type, uint64_t correlation,
                 size_t head_len);

/* Packs any protobuf message (a record's value) to the end of `out`; errors stick in `out`. */
void message_pack(struct bytes *out, const ProtobufCMessage *message);

#endif
