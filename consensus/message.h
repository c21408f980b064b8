/* The messages between nodes, inside the frames of proto/frame.h. Every head begins, little endian,
 * with
 *
 *   at size field
 *    0  4   group (0: the link itself)
 *    4  8   incarnation of the sender
 *
 * and goes on, for the messages of a group (all numbers little endian, u64 unless a size is given):
 *
 *   PEER_APPEND: term, prev_index, prev_term, leader_commit, log_commit, n u32, then n times term,
 *   len u32, crc32c of the payload u32, type u8. The attachment is the n payloads.
 *
 *   PEER_FETCHED: as PEER_APPEND: the answer to PEER_FETCH, read from the leader's segments.
 *
 *   PEER_APPEND_RESULT: term, rejected, last_index.
 *
 *   PEER_VOTE: term, candidate, last_index, last_term, disrupt u8, pre_vote u8.
 *
 *   PEER_VOTE_RESULT: term, granted u8, pre_vote u8 (libraft's tribool).
 *
 *   PEER_INSTALL: term, last_index, last_term, config_index, len u32, configuration in libraft's
 *   encoding.
 *
 *   PEER_TIMEOUT_NOW: term, last_index, last_term.
 *
 *   PEER_FETCH: term, first: send committed entries from `first` on.
 *
 *   PEER_LEADER_GONE: term: the sender led and can't go on.
 *
 *   PEER_READ_ASK: term, stamp: is that your term? PEER_READ: the same: yes (consensus/reads.c).
 *
 *   PEER_FETCH_REFUSED: term, first as asked, status u32 (a WEIR_E code), first index of the
 *   sender's log.
 *
 *   PEER_RESET: term, first_index, prev_term, first_offset, start_offset, time_ms, config_index,
 * len u32, configuration, len u32, state (log/state.h): the answer to PEER_FETCH of an entry that
 * the leader no longer has; its log begins here.
 *
 *   PEER_STATE_ASK: nonce, founders u32, lost u8, voter u8, marked u8
 *   (consensus/founding.h).
 *
 *   PEER_STATE: nonce, kind u8, term, leading u8, welcome u8, commit, founders u32, len u32,
 *   configuration in libraft's encoding (len 0: none).
 *
 *   PEER_REPAIR_ASK: first, last, anchor, anchor_term: entries that can't be read here; the sender
 *   has entry `anchor` of that term behind them. last 0: only where the other log begins.
 *
 *   PEER_REPAIR: first as asked, matched u8 (the sender has that anchor too), commit, first index
 * of the sender's log, n u32, then as PEER_APPEND: the answer; n = 0: it can't give them. When only
 * that was asked for, n = 0 is followed by prev_term, first_offset, time_ms and config_index of
 * where the log begins, if that is not entry 1. An older sender leaves them out.
 *
 *   PEER_COMPACTED: term, commit, compacted offset, tombstones time, clean offset, waits u8: how
 * far the sender has compacted its copy (consensus/retain.c). To its leader, and in front of
 * entries that it gives to another; only once it was told to compact.
 *
 * leader_commit is what a follower may commit (clamped to the entries of this message); log_commit
 * is where the leader is. */
#ifndef CONSENSUS_MESSAGE_H
#define CONSENSUS_MESSAGE_H

#include <raft.h>

#include "base/bytes.h"
#include "base/error.h"
#include "log/partition.h"

enum peer_message {
    PEER_HELLO = 1,
    PEER_CHALLENGE = 2,
    PEER_PROOF = 3,
    PEER_PING = 4,
    PEER_APPEND = 16,
    PEER_APPEND_RESULT = 17,
    PEER_VOTE = 18,
    PEER_VOTE_RESULT = 19,
    PEER_INSTALL = 20,
    PEER_TIMEOUT_NOW = 21,
    PEER_FETCH = 22,
    PEER_FETCHED = 23,
    PEER_LEADER_GONE = 24,
    PEER_STATE_ASK = 25,
    PEER_STATE = 26,
    PEER_READ_ASK = 27,
    PEER_READ = 28,
    PEER_FETCH_REFUSED = 29,
    PEER_REPAIR_ASK = 30,
    PEER_REPAIR = 31,
    PEER_RESET = 34,
    PEER_COMPACTED = 35,
};

#define MESSAGE_PREFIX_SIZE 12
#define MESSAGE_APPEND_SIZE (5 * 8 + 4)
#define MESSAGE_ENTRY_SIZE  (8 + 4 + 4 + 1)
#define MESSAGE_ENTRIES_MAX 4096
#define MESSAGE_SERVERS_MAX 64

struct peer_fetch {
    raft_term term;
    raft_index first;
};

/* The leader can't serve a PEER_FETCH: why (a WEIR_E code), and where its own log begins. */
struct peer_refused {
    raft_term term;
    raft_index first; /* as asked */
    int32_t status;
    raft_index available;
};

struct peer_read {
    raft_term term;
    uint64_t stamp;
};

struct peer_reset {
    raft_term term;
    struct partition_begin begin;
    const void *config; /* borrowed */
    uint32_t config_len;
    const void *state; /* borrowed; see partition_export_state */
    uint32_t state_len;
};

/* See consensus/founding.h. */
struct peer_state_ask {
    uint64_t nonce;    /* of this life of the asker */
    uint32_t founders; /* hash of the founders it was told of */
    bool lost;         /* it takes no part; else it was welcomed and wants its role back */
    bool voter;        /* that was voter, not standby */
    bool marked;       /* its disk says that it has to come back like a new server */
};
enum peer_founding {
    PEER_FRESH = 1,    /* an empty log */
    PEER_BOOTSTRAPPED, /* the first entry, and no vote */
    PEER_FOUNDED,
    PEER_LOST, /* has lost its promises itself */
};
struct peer_state {
    uint64_t nonce; /* the question's */
    enum peer_founding kind;
    raft_term term;
    bool leading; /* and may propose */
    bool welcome;
    raft_index commit;
    uint32_t founders;
    struct raft_configuration configuration; /* the newest in its log; may be empty */
};

struct peer_repair_ask {
    raft_index first, last;
    raft_index anchor; /* 0: none */
    raft_term anchor_term;
};

struct peer_repair {
    raft_index first; /* as asked */
    bool matched;
    raft_index commit, begins;
    /* Where that is; first_index 0: not told. Its start_offset is not sent. */
    struct partition_begin begin;
    const struct raft_entry *entries; /* of a message that came in: in message.raft */
    unsigned n;
};

/* struct partition_compaction, told in that term. */
struct peer_compacted {
    raft_term term; /* 0: nothing was told */
    raft_index commit;
    int64_t upto, tombstones_ms, clean;
    bool waits;
};

/* What came in: a raft message, or one of our own. */
struct message {
    enum peer_message type;
    struct raft_message raft;    /* of the types that libraft knows, and PEER_FETCHED (an append) */
    raft_index log_commit;       /* PEER_APPEND, PEER_FETCHED */
    raft_term end_term;          /* of the last entry, 0: none */
    size_t bytes;                /* of entries */
    struct peer_fetch fetch;     /* PEER_FETCH */
    raft_term term;              /* PEER_LEADER_GONE */
    struct peer_refused refused; /* PEER_FETCH_REFUSED */
    struct peer_read read;       /* PEER_READ_ASK, PEER_READ */
    struct peer_reset reset;     /* PEER_RESET; points into the body */
    struct peer_state_ask ask;   /* PEER_STATE_ASK */
    struct peer_state state;     /* PEER_STATE; the configuration is the message's */
    struct peer_repair_ask repair_ask; /* PEER_REPAIR_ASK */
    struct peer_repair repair;         /* PEER_REPAIR */
    struct peer_compacted compacted;   /* PEER_COMPACTED */
};

/* Appends the body (behind the prefix) of anything but PEER_APPEND's entries. Errors stick in
 * `out`. */
void message_encode(struct bytes *out, const struct raft_message *m);
void message_encode_append(struct bytes *out, const struct raft_append_entries *a,
                           raft_index log_commit);
void message_encode_fetch(struct bytes *out, const struct peer_fetch *fetch);
void message_encode_refused(struct bytes *out, const struct peer_refused *refused);
void message_encode_read(struct bytes *out, const struct peer_read *read);
void message_encode_reset(struct bytes *out, const struct peer_reset *reset);
void message_encode_repair_ask(struct bytes *out, const struct peer_repair_ask *ask);
/* The payloads are the attachment. */
void message_encode_repair(struct bytes *out, const struct peer_repair *repair);
void message_encode_compacted(struct bytes *out, const struct peer_compacted *compacted);
void message_encode_term(struct bytes *out, raft_term term);
void message_encode_state_ask(struct bytes *out, const struct peer_state_ask *ask);
void message_encode_state(struct bytes *out, const struct peer_state *state);

/* Decodes a body. Entries and configuration are raft_malloc'd: one block for all payloads. On
 * success the caller owns them: message_release, or libraft. server_id and server_address are the
 * caller's to set. WEIR_EPROTO, WEIR_ECORRUPT (checksum of a payload), WEIR_ENOMEM. */
int message_decode(uint16_t type, const void *body, size_t len, const void *attachment,
                   size_t attachment_len, struct message *ret_message, struct error *err);
void message_release(struct message *m);

/* Configurations in libraft's encoding: version u8, n u64, then n times id u64, address
 * (NUL-terminated), role u8. */
int configuration_decode(const void *data, size_t len, struct raft_configuration *ret_conf,
                         struct error *err);

#endif
