/* The coordinator of consumer groups: whoever leads a partition of topic `groups` coordinates the
 * groups whose names hash to it (proto/groups.proto). docs/protocol.md tells the conversation.
 *
 * Committed offsets are records; every replica folds them all the time (group_view.h), so that a
 * new leader answers as soon as it may propose, with everything that its predecessors acknowledged.
 * Members and who holds what (group_state.h) are soft: lost with the leadership, told again by the
 * members. Loop thread only. */
#ifndef NODES_BROKER_COORDINATOR_H
#define NODES_BROKER_COORDINATOR_H

#include "proto/messages.h"

struct broker;
struct conn;
struct coordinator;
struct replica;
struct view_producer;

int coordinator_new(struct broker *b, struct coordinator **ret_coordinator, struct error *err);
void coordinator_free(struct coordinator *co); /* NULL is allowed */
/* The replica's leader or commit mark changed; those of other topics are ignored. */
void coordinator_wake(struct coordinator *co, const struct replica *r);
void coordinator_sweep(struct coordinator *co, uint64_t now_ns);
/* Its members have a moment to come back. */
void coordinator_conn_closed(struct conn *c);

/* The replica that coordinates a name and, when it leads and has folded everything, 0; else
 * WEIR_ENOTLEADER or WEIR_EUNAVAILABLE. *ret_producer: what is known of the named producer, NULL:
 * nothing yet (may be NULL). */
int coordinator_producer(struct coordinator *co, const char *name, struct replica **ret_replica,
                         const struct view_producer **ret_producer);

/* The newest incarnation that this replica knows of, leader or not; NULL: none. */
const struct view_producer *coordinator_known_producer(struct coordinator *co, const char *name);

/* Requests; negative: the connection is to be closed with that error. */
int broker_handle_init_producer(struct conn *c, const struct frame *frame,
                                const ProtobufCMessage *head, struct error *err);
int broker_handle_group_poll(struct conn *c, const struct frame *frame,
                             const ProtobufCMessage *head, struct error *err);
int broker_handle_group_leave(struct conn *c, const struct frame *frame,
                              const ProtobufCMessage *head, struct error *err);
int broker_handle_group_commit(struct conn *c, const struct frame *frame,
                               const ProtobufCMessage *head, struct error *err);
int broker_handle_group_offsets(struct conn *c, const struct frame *frame,
                                const ProtobufCMessage *head, struct error *err);
int broker_handle_group_describe(struct conn *c, const struct frame *frame,
                                 const ProtobufCMessage *head, struct error *err);

#endif
