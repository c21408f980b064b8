/* The inside of a group member: group.c (joining, polls, partitions) and group_commit.c. */
#ifndef CLIENTS_LOG_GROUP_PRIV_H
#define CLIENTS_LOG_GROUP_PRIV_H

#include "clients/log/client_priv.h"

#define GROUP_TOPICS_MAX     64
#define GROUP_NAME_MAX       63
#define GROUP_TICK_US        50000u
#define GROUP_BACKOFF_MIN_NS 20000000u
#define GROUP_BACKOFF_MAX_NS 500000000u

enum held_state {
    HELD_RESOLVING, /* nothing is committed: asks the leader where the log begins or ends */
    HELD_SETTING,   /* commits where it begins, before the first record: the end moves on */
    HELD_RUNNING,
    HELD_REVOKED, /* commits, then goes */
};

/* A partition that this member holds. */
struct held {
    struct list link;
    struct weir_group *group; /* NULL: dropped, freed when its question or callback is over */
    unsigned topic;
    uint32_t partition;
    enum held_state state;
    struct weir_consumer *consumer; /* NULL unless running */
    int64_t next;                   /* the first one not processed; -1: not known yet */
    int64_t committed;              /* as the coordinator has acknowledged; -1: never */
    int64_t committing;             /* what the commit on its way says */
    bool told;                      /* of the assignment, to the caller */
    /* An answer left it out. The next coordinator must not hear that we hold it: it may have been
     * given to somebody who committed since, and our generation is that of the answer by now. */
    bool taken;
    bool unwanted; /* to be revoked */
    bool caught_up, asking;
    unsigned callbacks; /* that run, one inside the other */
    struct weir_offsets_req bounds;
};

struct weir_group {
    struct list link; /* client.groups */
    struct weir_client *client;
    struct weir_group_events events;
    struct weir_group_options options; /* defaults filled in; strings are the next ones */
    char name[GROUP_NAME_MAX + 1];
    char member[33];
    char topics[GROUP_TOPICS_MAX][CONFIG_NAME_MAX];
    struct list held; /* struct held.link */
    unsigned n_held, n_revoked;
    uint64_t generation, sequence;
    bool joined; /* has been answered once */
    /* Of the coordinator that has heard what we hold: nothing is committed to another one. */
    uint64_t known_term, asked_term;
    bool fenced; /* the last commit was: once more, after a poll */
    bool failed, paused;
    bool lost; /* something processed is another's and was not committed: who waits is to hear it */
    bool stale; /* not heard of for a session: others may have taken over */
    uint64_t heard_ns;
    uint64_t retry_at_ns, backoff_ns;
    uint64_t revoke_deadline_ns;
    struct broker_request poll, commit, leave;
    struct client_broker *poll_broker, *commit_broker, *leave_broker;
    /* Commits */
    uint64_t commit_due_ns, commit_retry_ns;
    bool commit_now;
    uint64_t round;      /* of the commit that was sent last */
    struct list commits; /* struct weir_group_commit.link, waiting for a round */
    /* The end */
    bool closing, left;
    uint64_t close_deadline_ns;
    void (*close_cb)(void *data);
    void *close_data;
    struct env_timer tick;
    struct env_defer step;
};

/* group.c */
void group_step_soon(struct weir_group *g);
struct client_broker *group_coordinator(struct weir_group *g); /* NULL: not known now */
/* The coordinator knows what we hold. */
bool group_known(struct weir_group *g);
/* Tells it anew, before anything else. */
void group_tell_again(struct weir_group *g);
/* After an answer that was none: news of the leader, a pause before the next attempt. */
void group_backoff(struct weir_group *g, int status, const ProtobufCMessage *head);
void group_start(struct held *h);
void group_drop_revoked(struct weir_group *g);
const char *held_topic(const struct held *h);

/* group_commit.c */
void group_commit_step(struct weir_group *g, uint64_t now_ns);
bool group_dirty(const struct held *h);           /* processed and not committed */
bool group_committed(const struct weir_group *g); /* nothing processed is uncommitted */
void group_commits_end(struct weir_group *g, int status);

#endif
