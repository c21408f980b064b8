/* Chat: recent messages, bans and badges of every room, as the topic `chat` tells them. Whether a
 * message counts is decided at its offset; gateways ask first only to answer fast. Answers are
 * copies or borrowed during a callback. Loop thread of the views.
 *
 * A message is void when its author is banned at that offset (VERDICT_BANNED), when the same user
 * sent the same nonce within the kept history (VERDICT_DUPLICATE), when it comes sooner after its
 * author's last one than the room's slow mode allows (VERDICT_SLOW; not the owner's), or when it
 * comes too fast (VERDICT_RATE): GCRA on append time, one message per CHAT_RATE_MS with a tolerance
 * of CHAT_BURST messages, so that jitter between a gateway's clock and the partition's never
 * refuses what a gateway let pass, while a user on several gateways gets no more than one user's
 * rate. Bans end by append time too, and slow mode counts by it: from the author's last accepted
 * message, also when that is older than the slow mode. That the author of a ban or of a slow mode
 * may give it, and whose messages are exempt, is checked by who produces it: channel owners live in
 * another partition, in another order.
 *
 * Queries: 0, WEIR_ENOTFOUND where said, WEIR_EUNAVAILABLE (topic not known yet), or an error of
 * the store. */
#ifndef VIEWS_CHAT_H
#define VIEWS_CHAT_H

#include "views/views.h"

#define CHAT_TEXT_CODEPOINTS_MAX 500
#define CHAT_TEXT_MAX            2000 /* bytes */
#define CHAT_NONCE_MAX           64   /* bytes; an empty nonce is never a duplicate */
#define CHAT_REASON_MAX          500  /* bytes */
#define CHAT_NOTICE_TEXT_MAX     500  /* bytes */
#define CHAT_BAN_SECONDS_MAX     (366u * 86400u)
#define CHAT_SLOW_SECONDS_MAX    3600u
#define CHAT_RATE_MS             1000
#define CHAT_BURST               3
/* A room keeps at least CHAT_KEPT_MIN of its newest accepted records of every kind, so that a
 * client can take up where it was, and at most CHAT_KEPT_MAX; older ones are in the log. */
#define CHAT_KEPT_MIN 10000
#define CHAT_KEPT_MAX 11000

/* Subscriber badge; tier 0: none. Holds until expires_ms. */
struct chat_badge {
    uint32_t tier, months;
    int64_t expires_ms;
};

/* What the fold adds for listeners of VIEW_CHAT. */
struct chat_outcome {
    const char *room;
    struct chat_badge badge; /* message: the author's at this offset; notice: what it gave */
    int64_t
        duplicate_of; /* VERDICT_DUPLICATE: the offset that counted; -1 when it is no longer kept */
    int64_t retry_after_ms; /* VERDICT_RATE, VERDICT_SLOW */
    int64_t until_ms;       /* VERDICT_BANNED and an accepted ban: end, 0 is permanent */
};

/* A kept record. */
struct chat_item {
    int64_t offset;
    int64_t append_ms;
    const void *record; /* Weir__ChatRecord with any body; borrowed during the callback */
    struct chat_badge badge;
    const char *deleted_by; /* of a message; NULL: not deleted */
};
/* Non-zero ends the walk and is returned. */
typedef int (*chat_item_cb)(void *data, const struct chat_item *item);
/* At most n items with offset < before (INT64_MAX: the newest), newest first. */
int chat_before(struct views *views, const char *room, int64_t before, unsigned n, chat_item_cb cb,
                void *data);
/* At most n items with offset >= from, oldest first. */
int chat_from(struct views *views, const char *room, int64_t from, unsigned n, chat_item_cb cb,
              void *data);
/* Items at or above *ret_offset are all kept; below it the log must be asked. 0 when nothing was
 * ever dropped. */
int chat_kept_from(struct views *views, const char *room, int64_t *ret_offset);
/* The partition of a room's records. */
uint32_t chat_partition(const struct views *views, const char *room);

struct chat_ban {
    char user[26], by[26];
    char reason[CHAT_REASON_MAX + 1];
    int64_t at_ms, until_ms; /* until 0: permanent */
};
/* WEIR_ENOTFOUND: not banned at now_ms. */
int chat_ban_of(struct views *views, const char *room, const char *user, int64_t now_ms,
                struct chat_ban *ret_ban);
/* The room's slow mode: 0 is off. */
int chat_slow(struct views *views, const char *room, uint32_t *ret_seconds);
/* How long the slow mode has this user wait at now_ms: 0 when not at all, or when now_ms is from a
 * clock that is behind the log's. */
int chat_slow_wait(struct views *views, const char *room, const char *user, int64_t now_ms,
                   int64_t *ret_wait_ms);
typedef int (*chat_ban_cb)(void *data, const struct chat_ban *ban);
/* All bans of the room that hold at now_ms, by user name. */
int chat_bans(struct views *views, const char *room, int64_t now_ms, chat_ban_cb cb, void *data);
/* The badge at now_ms; tier 0 when there is none. */
int chat_badge_of(struct views *views, const char *room, const char *user, int64_t now_ms,
                  struct chat_badge *ret_badge);
/* True when the notice made from this source record counts already, or is older than what the room
 * still remembers. */
int chat_notice_seen(struct views *views, const char *room, const char *source_topic,
                     uint32_t source_partition, int64_t source_offset, bool *ret_seen);

/* Valid UTF-8 without control characters, 1..CHAT_TEXT_CODEPOINTS_MAX code points: what the fold
 * asks of a message. */
bool chat_text_valid(const char *text);

#endif
