/* Faults put in on purpose, so that tests can show that they would be found (docs/simulation.md,
 * jepsen/README.md). They exist only where WEIR_FAULTS is defined: in tests/sim's second program
 * and in builds configured with -DWEIR_FAULTS=ON, never in a release.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* name for the command line, what is wrong then */
#define FAULT_MAP(X)                                                                               \
    X(FAULT_NO_FSYNC, "no_fsync", "files are never synced")                                        \
    X(FAULT_NO_DIR_SYNC, "no_dir_sync", "folders are never synced")                                \
    X(FAULT_ACK_EARLY, "ack_early", "records are acknowledged before a quorum has them")           \
    X(FAULT_VOTE_NOT_PERSISTED, "vote_not_persisted", "a vote is kept in memory only")             \
    X(FAULT_NO_CHECKSUM, "no_checksum", "payloads read from disk are not checked")                 \
    X(FAULT_NO_DEDUP, "no_dedup", "a repeated batch is stored again")                              \
    X(FAULT_STALE_READ, "stale_read", "a leader answers without asking a quorum")                  \
    X(FAULT_COMMIT_ANY, "commit_any", "a group's member commits what it does not hold")            \
    X(FAULT_NAME_RETAKEN, "name_retaken", "a fenced producer takes its name back")                 \
    X(FAULT_TOMBSTONE_EARLY, "tombstone_early", "compaction waits for nobody to drop tombstones")  \
    X(FAULT_EPOCH_IGNORED, "epoch_ignored", "the fold takes parts of workers that were replaced")  \
    X(FAULT_BAN_AT_GATEWAY, "ban_at_gateway", "bans are checked by gateways, not by the fold")     \
    X(FAULT_SLOW_AT_GATEWAY, "slow_at_gateway", "slow mode is kept by gateways, not by the fold")  \
    X(FAULT_LEDGER_REPEATS, "ledger_repeats", "an entry is booked again under the same key")       \
    X(FAULT_PLAYLIST_LOCAL, "playlist_local", "an edge numbers segments by what it has seen")

#define X(id, name, text) id,
enum fault { FAULT_MAP(X) FAULT_COUNT };
#undef X

#ifdef WEIR_FAULTS
extern uint32_t faults_on; /* bit per enum fault */
extern uint32_t
    faults_guards_off; /* bit per guard of docs/raft-guards.md, in such a build's node */
static inline bool fault_on(enum fault fault)
{
    return (faults_on >> fault & 1) != 0;
}
/* Switches on what the environment's WEIR_FAULTS names, with commas between: the names above,
 * `guard_<number>` (that guard is off) and `guards` (all of libraft are). Says so on standard
 * error. False: a name that is not known. */
bool faults_begin(void);
#else
#define fault_on(fault) false
#endif

#endif
