/* How a group begins, and how a replica that lost its promises comes back.
 *
 * Raft's safety rests on what a server remembers: which term it is in, whom it voted for, what it
 * said it has on disk. A replica with an empty disk, or with a metadata file or an end of the log
 * that is gone, must not vote or acknowledge as if it had never promised anything. It can't tell
 * whether it did; so a replica whose log is empty, or whose metadata say `recovering`, asks first
 * (PEER_STATE_ASK, every FOUNDING_ASK_MS, all peers it knows of), and libraft does not run:
 *
 *  - All founders answered that they have nothing either, or the first entry alone, in its term and
 *    without a vote: the group is new. The first entry is written. An answer counts for as long as
 *    this process lives: who had not founded then had nobody's vote then.
 *  - Otherwise it takes no part until a leader says it is welcome:
 *      the leader's newest configuration is committed, this replica is no voter in it, the leader
 *      believes nothing of its log, and an entry proposed after this life's first question has been
 *      committed in the leader's term.
 *    A leader that is asked by a member removes it first, but not before that one's metadata say
 *    so: else it might yet hear that all are new, and begin as a member that it is no more. The
 *    replica then takes over the leader's term, durably, and libraft starts, with the log as it is.
 *    Until that log has all that was committed when it was welcome (the floor), the replica takes
 *    entries, and neither votes nor campaigns, nor acknowledges the floor: after a crash it asks
 *    again. With the floor on disk the mark is cleared: from there on every promise is remembered
 *    like anybody's. What it was (the wish, in the metadata too) it asks to be made again, standby,
 *    then voter; after a crash it goes on asking, with libraft running.
 *
 * So a replica with lost promises comes back like a new server under its old id, and what is safe
 * is what is safe about single server changes: the configuration without it is committed by a
 * majority that meets, outside of it, every majority that an old vote or acknowledgement of its
 * could have completed. See docs/decisions/0090 and 0200. */
#ifndef CONSENSUS_FOUNDING_H
#define CONSENSUS_FOUNDING_H

#include "consensus/group_impl.h"

#define FOUNDING_ASK_MS 100

/* Opening: starts libraft, writes the first entry, or begins to ask. */
int founding_start(struct group *g, struct error *err);
void founding_tick(struct group *g);
void founding_asked(struct group *g, struct group_peer *from, const struct peer_state_ask *ask);
void founding_told(struct group *g, struct group_peer *from, const struct peer_state *state);
/* The highest entry that may be acknowledged. */
raft_index founding_acknowledged_most(const struct group *g);
/* libraft elects a sole voter when it starts: by a log that may be too old to say so. */
void founding_hide(struct group *g);
void founding_unhide(struct group *g);

#endif
