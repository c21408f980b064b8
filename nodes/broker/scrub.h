/* Scrubbing: reads the whole log of every replica of this node, round after round, and checks every
 * checksum, so that damage is found while another replica still has a good copy (the group then
 * mends it: consensus/repair.c). In the background at log.scrub_mib_s, an hour apart; `weir log
 * scrub` has a round begun at once, without that limit. The disk is read off the loop thread, which
 * fills the page cache; what is checked on the loop, a piece a turn, then waits for no disk. Loop
 * thread only. */
#ifndef NODES_BROKER_SCRUB_H
#define NODES_BROKER_SCRUB_H

#include "base/error.h"
#include "proto/messages.h"

struct broker;
struct conn;
struct frame;
struct scrub;

/* NULL: no memory. */
struct scrub *scrub_new(struct broker *b);
/* Before the groups close. A read that is under way is waited for. NULL is allowed. */
void scrub_close(struct scrub *s);
/* BROKER_SCRUB_REQUEST: begins a round, or asks how far the running one is. */
int broker_handle_scrub(struct conn *c, const struct frame *frame, const ProtobufCMessage *head,
                        struct error *err);

#endif
