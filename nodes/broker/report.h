/* What brokers tell each other over the links between nodes, beside their groups' messages: every
 * node reports twice a second to the leader of `meta` what it leads; that one asks a leader to hand
 * a group over; and every node tells every other whether its disk has room. Nothing depends on a
 * message that arrives: what counts is said again. Loop thread.
 *
 * The messages are those of proto/meta.proto, in a frame of the reserved group. */
#ifndef NODES_BROKER_REPORT_H
#define NODES_BROKER_REPORT_H

#include <stdint.h>

#include "base/error.h"

struct broker;

#define REPORT_GROUP_ID UINT32_MAX /* no partition's id: broker.c sees to it */

enum report_message { REPORT_STATE = 64, REPORT_HAND_OVER = 65, REPORT_ROOM = 66 };

int report_open(struct broker *b, struct error *err);
void report_close(struct broker *b);
/* Sends a report when it is time to. */
void report_tick(struct broker *b, uint64_t now_ns);
/* Whether there is room, to all peers (room.h). */
void report_room(struct broker *b);
/* To the leader of the group, which may be this node. */
void report_hand_over(struct broker *b, uint32_t leader, uint32_t group_id, uint32_t target);

#endif
