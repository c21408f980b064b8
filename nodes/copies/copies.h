/* Keeps this node's copies of media whole, in the background: what it is to hold
 * (media/store_place.h, from what the log names and who is a member) and does not, or damaged, it
 * fetches from others and stores. Every node sees to its own copies only: nobody is told what to
 * do, nothing is listed between nodes, and what the log does not name is never made.
 *
 * Two rounds over all that the lifecycle view names, in pages:
 * - the look asks the disk for sizes, seconds after the start, whenever the members change, and
 * then again and again, resting twenty times as long as it took (2 s to an hour);
 * - the scrub reads at media.scrub_mib_s and checks every CRC, an hour apart.
 *
 * A member that has not answered for media.lost_ms, or that can't store (it has no edge role), is
 * not counted: others stand in. GET /internal/copies says how it goes; docs/hls.md (Copies) tells
 * it as a whole. Front loop only. */
#ifndef NODES_COPIES_H
#define NODES_COPIES_H

#include "nodes/role.h"

struct copies;

/* Adds its route. */
int copies_start(struct node *node, struct copies **ret_copies, struct error *err);
/* What is being fetched is let go of; cb once the disk has answered. NULL: cb at once. */
void copies_stop(struct copies *copies, void (*cb)(void *data), void *data);

#endif
