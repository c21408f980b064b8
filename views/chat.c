/* Keys of a partition (rooms, users and topics are words; strings end with NUL; integers big
 * endian):
 *
 *   'k' room                        room (chat_room_put): what is kept, slow mode
 *   'm' room u64 offset             item (chat_item_put): a kept record
 *   'u' room user                   member (chat_member_put): rate, last message, badge and ban
 *                                   of one user
 *   'b' room user                   (empty) index of banned users
 *   'd' room user nonce             u64 offset; as long as its message is kept
 *   'n' room topic u32 partition u64 offset   (empty) notice made; as long as it is kept
 *   'f' room topic u32 partition    u64 highest source offset dropped; at or below it: seen
 *
 * Everything of a room is bounded by what it keeps, but for bans, badges and who has to wait in
 * slow mode, which count users. */
#include "views/chat.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "base/fault.h"
#include "proto/chat.pb-c.h"
#include "views/chat_state.h"
#include "views/fold.h"
#include "views/text.h"

#define RECORD_BYTES_MAX 8192
#define BURST_MS         ((int64_t)CHAT_RATE_MS * CHAT_BURST)

struct chat_fold {
    struct fold_txn *txn;
    const struct fold_record *record;
    const char *room;
    struct chat_outcome *outcome;
    enum verdict verdict;
};

static int verdict(struct chat_fold *f, enum verdict v)
{
    f->verdict = v;
    return 0;
}

bool chat_text_valid(const char *text)
{
    size_t len = strnlen(text, CHAT_TEXT_MAX + 1), points = 0;
    return len > 0 && len <= CHAT_TEXT_MAX && text_valid(text, len, &points) &&
           points <= CHAT_TEXT_CODEPOINTS_MAX;
}

static bool name_valid(const char *name)
{
    return text_is_word(name, CHAT_NAME_MIN, CHAT_NAME_MAX);
}

/* --- What a room keeps --- */

struct trim {
    struct chat_fold *f;
    const struct chat_room *room;
    uint32_t left;
    int64_t last;
};

static int ban_index(struct chat_fold *f, const char *user, bool banned)
{
    struct chat_key k;
    chat_key_ban(&k, f->room, user);
    return banned ? fold_put(f->txn, k.data, k.len, "", 0) : fold_delete(f->txn, k.data, k.len);
}

static int trim_message(struct chat_fold *f, const struct chat_room *room,
                        const Weir__ChatMessage *m)
{
    struct chat_key k;
    struct chat_member member;
    int rc = 0;
    if (m->nonce[0] != '\0') {
        chat_key_nonce(&k, f->room, m->user, m->nonce);
        rc = fold_delete(f->txn, k.data, k.len);
    }
    if (rc == 0) {
        rc = chat_member_get(f->txn, f->room, m->user, &member);
    }
    int64_t now = f->record->append_ms;
    if (rc != 0 || member.tat_ms > now || chat_member_banned(&member, now) ||
        member.badge.expires_ms > now || chat_member_wait_ms(&member, room, now) > 0) {
        return rc;
    }
    /* Says nothing any more: as good as absent. */
    chat_key_member(&k, f->room, m->user);
    rc = fold_delete(f->txn, k.data, k.len);
    return rc == 0 && member.banned ? ban_index(f, m->user, false) : rc;
}

static int trim_notice(struct chat_fold *f, const Weir__ChatNotice *n)
{
    struct chat_key k;
    int64_t floor = -1;
    chat_key_notice(&k, f->room, n->source_topic, n->source_partition, n->source_offset);
    int rc = fold_delete(f->txn, k.data, k.len);
    if (rc == 0) {
        rc = chat_floor_get(f->txn, f->room, n->source_topic, n->source_partition, &floor);
    }
    if (rc != 0 || floor >= n->source_offset) {
        return rc;
    }
    return chat_floor_put(f->txn, f->room, n->source_topic, n->source_partition, n->source_offset);
}

static int trim_one(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                    size_t value_len)
{
    struct trim *t = data;
    struct chat_item item;
    if (t->left == 0) {
        return 1;
    }
    t->left--;
    int rc = chat_item_decode(t->f->txn, key, key_len, value, value_len, &item);
    if (rc != 0) {
        return rc;
    }
    const Weir__ChatRecord *m = item.record;
    t->last = item.offset;
    if (m->body_case == WEIR__CHAT_RECORD__BODY_MESSAGE) {
        rc = trim_message(t->f, t->room, m->message);
    } else if (m->body_case == WEIR__CHAT_RECORD__BODY_NOTICE) {
        rc = trim_notice(t->f, m->notice);
    }
    return rc == 0 ? fold_delete(t->f->txn, key, key_len) : rc;
}

/* Many at once, and from the oldest kept on: a walk from the room's beginning would step over every
 * key ever deleted there. */
static int room_trim(struct chat_fold *f, struct chat_room *room)
{
    struct chat_key k, from;
    struct trim t = {
        .f = f, .room = room, .left = room->kept - CHAT_KEPT_MIN, .last = room->kept_from - 1};
    uint32_t n = t.left;
    chat_key_items(&k, f->room);
    chat_key_item(&from, f->room, room->kept_from);
    int rc = fold_scan_from(f->txn, k.data, k.len, from.data, from.len, false, trim_one, &t);
    room->kept -= n - t.left;
    room->kept_from = t.last + 1;
    return rc > 0 ? 0 : rc;
}

static int room_keep(struct chat_fold *f, const struct chat_badge *badge)
{
    struct chat_room room;
    struct chat_key k;
    const struct chat_item item = {
        .append_ms = f->record->append_ms,
        .badge = *badge,
    };
    int rc = chat_room_get(f->txn, f->room, &room);
    if (rc == 0) {
        chat_key_item(&k, f->room, f->record->offset);
        rc = chat_item_put(f->txn, &k, &item, f->record->value, f->record->len);
    }
    room.kept++;
    if (rc == 0 && room.kept > CHAT_KEPT_MAX) {
        rc = room_trim(f, &room);
    }
    return rc == 0 ? chat_room_put(f->txn, f->room, &room) : rc;
}

/* --- Messages --- */

static bool message_valid(const Weir__ChatMessage *m)
{
    return name_valid(m->user) &&
           (m->display_name[0] == '\0' || strcasecmp(m->user, m->display_name) == 0) &&
           chat_text_valid(m->text) && text_valid_within(m->nonce, CHAT_NONCE_MAX);
}

/* Generic cell rate algorithm (ITU-T I.371 annex A), virtual scheduling: tat is when the next
 * message is due. */
static bool rate_passes(struct chat_fold *f, struct chat_member *member)
{
    int64_t now = f->record->append_ms;
    if (member->tat_ms - BURST_MS > now) {
        f->outcome->retry_after_ms = member->tat_ms - BURST_MS - now;
        return false;
    }
    member->tat_ms = (member->tat_ms > now ? member->tat_ms : now) + CHAT_RATE_MS;
    return true;
}

/* Append times never go back within a partition, so nobody waits longer than the slow mode says. */
static int slow_passes(struct chat_fold *f, const Weir__ChatMessage *m, struct chat_member *member,
                       bool *ret_passes)
{
    struct chat_room room = {0};
    int64_t now = f->record->append_ms, wait_ms = 0;
    int rc = m->exempt ? 0 : chat_room_get(f->txn, f->room, &room);
    if (rc != 0) {
        return rc;
    }
    wait_ms = fault_on(FAULT_SLOW_AT_GATEWAY) ? 0 : chat_member_wait_ms(member, &room, now);
    if (wait_ms > 0) {
        f->outcome->retry_after_ms = wait_ms;
    } else {
        member->said_ms = now;
    }
    *ret_passes = wait_ms == 0;
    return 0;
}

/* *ret_offset -1: not sent before. */
static int nonce_find(struct chat_fold *f, const Weir__ChatMessage *m, int64_t *ret_offset)
{
    struct chat_key k;
    const uint8_t *value = NULL;
    size_t len = 0;
    *ret_offset = -1;
    if (m->nonce[0] == '\0') {
        return 0;
    }
    chat_key_nonce(&k, f->room, m->user, m->nonce);
    int rc = fold_read(f->txn, k.data, k.len, &value, &len);
    if (rc == 0 && len == 8) {
        *ret_offset = (int64_t)load_be64(value);
    }
    return rc == WEIR_ENOTFOUND ? 0 : rc;
}

static int nonce_put(struct chat_fold *f, const Weir__ChatMessage *m)
{
    struct chat_key k;
    uint8_t value[8];
    if (m->nonce[0] == '\0') {
        return 0;
    }
    store_be64(value, (uint64_t)f->record->offset);
    chat_key_nonce(&k, f->room, m->user, m->nonce);
    return fold_put(f->txn, k.data, k.len, value, sizeof(value));
}

/* The duplicate comes before the ban, the slow mode and the rate: a message that was sent again
 * because its answer got lost has the first one's fate. */
static int message_judge(struct chat_fold *f, const Weir__ChatMessage *m,
                         struct chat_member *member)
{
    int64_t first = -1;
    bool passes = false;
    int rc = nonce_find(f, m, &first);
    if (rc != 0) {
        return rc;
    }
    if (first >= 0) {
        f->outcome->duplicate_of = first;
        return verdict(f, VERDICT_DUPLICATE);
    }
    rc = chat_member_get(f->txn, f->room, m->user, member);
    if (rc != 0) {
        return rc;
    }
    if (chat_member_banned(member, f->record->append_ms) && !fault_on(FAULT_BAN_AT_GATEWAY)) {
        f->outcome->until_ms = member->until_ms;
        return verdict(f, VERDICT_BANNED);
    }
    rc = slow_passes(f, m, member, &passes);
    if (rc != 0 || !passes) {
        return rc != 0 ? rc : verdict(f, VERDICT_SLOW);
    }
    return verdict(f, rate_passes(f, member) ? VERDICT_OK : VERDICT_RATE);
}

static int fold_message(struct chat_fold *f, const Weir__ChatMessage *m)
{
    struct chat_member member;
    if (!message_valid(m)) {
        return verdict(f, VERDICT_MALFORMED);
    }
    int rc = message_judge(f, m, &member);
    if (rc != 0 || f->verdict != VERDICT_OK) {
        return rc;
    }
    if (member.badge.expires_ms > f->record->append_ms) {
        f->outcome->badge = member.badge;
    }
    rc = chat_member_put(f->txn, f->room, m->user, &member);
    if (rc == 0) {
        rc = nonce_put(f, m);
    }
    return rc == 0 ? room_keep(f, &f->outcome->badge) : rc;
}

static int fold_delete_message(struct chat_fold *f, const Weir__ChatDelete *m)
{
    struct chat_key k;
    struct chat_item item;
    const uint8_t *value = NULL;
    size_t len = 0;
    if (!name_valid(m->by) || m->offset < 0) {
        return verdict(f, VERDICT_MALFORMED);
    }
    chat_key_item(&k, f->room, m->offset);
    int rc = fold_read(f->txn, k.data, k.len, &value, &len);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? verdict(f, VERDICT_NOT_FOUND) : rc;
    }
    rc = chat_item_decode(f->txn, k.data, k.len, value, len, &item);
    if (rc != 0) {
        return rc;
    }
    const Weir__ChatRecord *record = item.record;
    if (record->body_case != WEIR__CHAT_RECORD__BODY_MESSAGE) {
        return verdict(f, VERDICT_NOT_FOUND);
    }
    if (item.deleted_by != NULL) {
        return verdict(f, VERDICT_EXISTS);
    }
    item.deleted_by = m->by;
    size_t packed = 0;
    const uint8_t *raw = chat_item_raw(value, len, &packed);
    rc = chat_item_put(f->txn, &k, &item, raw, packed);
    return rc == 0 ? room_keep(f, &(struct chat_badge){0}) : rc;
}

/* --- Bans --- */

static int fold_ban(struct chat_fold *f, const Weir__ChatBan *m)
{
    struct chat_member member;
    if (!name_valid(m->user) || !name_valid(m->by) || m->seconds > CHAT_BAN_SECONDS_MAX ||
        !text_valid_within(m->reason, CHAT_REASON_MAX)) {
        return verdict(f, VERDICT_MALFORMED);
    }
    int rc = chat_member_get(f->txn, f->room, m->user, &member);
    if (rc != 0) {
        return rc;
    }
    int64_t now = f->record->append_ms;
    member.banned = true;
    member.at_ms = now;
    member.until_ms = m->seconds == 0 ? 0 : now + (int64_t)m->seconds * 1000;
    member.by = m->by;
    member.reason = m->reason;
    f->outcome->until_ms = member.until_ms;
    rc = chat_member_put(f->txn, f->room, m->user, &member);
    if (rc == 0) {
        rc = ban_index(f, m->user, true);
    }
    return rc == 0 ? room_keep(f, &(struct chat_badge){0}) : rc;
}

static int fold_unban(struct chat_fold *f, const Weir__ChatUnban *m)
{
    struct chat_member member;
    if (!name_valid(m->user) || !name_valid(m->by)) {
        return verdict(f, VERDICT_MALFORMED);
    }
    int rc = chat_member_get(f->txn, f->room, m->user, &member);
    if (rc != 0) {
        return rc;
    }
    if (!chat_member_banned(&member, f->record->append_ms)) {
        return verdict(f, VERDICT_NOT_FOUND);
    }
    member.banned = false;
    rc = chat_member_put(f->txn, f->room, m->user, &member);
    if (rc == 0) {
        rc = ban_index(f, m->user, false);
    }
    return rc == 0 ? room_keep(f, &(struct chat_badge){0}) : rc;
}

/* --- Slow mode --- */

static int fold_slow(struct chat_fold *f, const Weir__ChatSlow *m)
{
    struct chat_room room;
    if (!name_valid(m->by) || m->seconds > CHAT_SLOW_SECONDS_MAX) {
        return verdict(f, VERDICT_MALFORMED);
    }
    int rc = chat_room_get(f->txn, f->room, &room);
    if (rc == 0) {
        room.slow_s = m->seconds;
        rc = chat_room_put(f->txn, f->room, &room);
    }
    return rc == 0 ? room_keep(f, &(struct chat_badge){0}) : rc;
}

/* --- Notices --- */

static bool notice_valid(const Weir__ChatNotice *n)
{
    return text_is_word(n->source_topic, 1, CHAT_TOPIC_MAX) && n->source_offset >= 0 &&
           text_is_word(n->kind, 1, CHAT_KIND_MAX) && name_valid(n->user) &&
           n->tier <= CHAT_TIER_MAX && text_valid_within(n->text, CHAT_NOTICE_TEXT_MAX);
}

static int fold_notice(struct chat_fold *f, const Weir__ChatNotice *n)
{
    struct chat_key k;
    struct chat_member member;
    bool seen = false;
    if (!notice_valid(n)) {
        return verdict(f, VERDICT_MALFORMED);
    }
    int rc = chat_notice_find(f->txn, f->room, n->source_topic, n->source_partition,
                              n->source_offset, &seen);
    if (rc != 0) {
        return rc;
    }
    if (seen) {
        f->outcome->duplicate_of = -1;
        return verdict(f, VERDICT_DUPLICATE);
    }
    chat_key_notice(&k, f->room, n->source_topic, n->source_partition, n->source_offset);
    rc = fold_put(f->txn, k.data, k.len, "", 0);
    if (rc == 0) {
        rc = chat_member_get(f->txn, f->room, n->user, &member);
    }
    if (rc == 0 && n->tier > 0) {
        member.badge = (struct chat_badge){n->tier, n->months, n->expires_ms};
        f->outcome->badge = member.badge;
        rc = chat_member_put(f->txn, f->room, n->user, &member);
    }
    return rc == 0 ? room_keep(f, &f->outcome->badge) : rc;
}

/* --- The view --- */

static int fold_body(struct chat_fold *f, const Weir__ChatRecord *m)
{
    if (!name_valid(m->room)) {
        return verdict(f, VERDICT_MALFORMED);
    }
    switch (m->body_case) {
    case WEIR__CHAT_RECORD__BODY_MESSAGE:
        return fold_message(f, m->message);
    case WEIR__CHAT_RECORD__BODY_BAN:
        return fold_ban(f, m->ban);
    case WEIR__CHAT_RECORD__BODY_UNBAN:
        return fold_unban(f, m->unban);
    case WEIR__CHAT_RECORD__BODY_DELETE:
        return fold_delete_message(f, m->delete_);
    case WEIR__CHAT_RECORD__BODY_NOTICE:
        return fold_notice(f, m->notice);
    case WEIR__CHAT_RECORD__BODY_SLOW:
        return fold_slow(f, m->slow);
    default:
        return verdict(f, VERDICT_MALFORMED);
    }
}

static int chat_fold(void *state, struct fold_txn *txn, const struct fold_record *record,
                     struct view_event *ret_event, struct error *err)
{
    (void)state;
    if (record->len > RECORD_BYTES_MAX) {
        ret_event->verdict = VERDICT_MALFORMED;
        return 0;
    }
    struct chat_outcome *outcome = fold_alloc(txn, sizeof(*outcome));
    Weir__ChatRecord *m =
        weir__chat_record__unpack(fold_allocator(txn), record->len, record->value);
    if (outcome == NULL || (m == NULL && fold_unpack_failed(txn) != 0)) {
        return error_set(err, WEIR_ENOMEM, "chat record of %zu bytes", record->len);
    }
    if (m == NULL) {
        ret_event->verdict = VERDICT_MALFORMED;
        return 0;
    }
    struct chat_fold f = {.txn = txn, .record = record, .room = m->room, .outcome = outcome};
    outcome->room = m->room;
    outcome->duplicate_of = -1;
    int rc = fold_body(&f, m);
    ret_event->verdict = f.verdict;
    ret_event->record = m;
    ret_event->outcome = outcome;
    return rc;
}

const struct view_ops chat_view = {
    .topic = VIEW_CHAT,
    .version = 3,
    .fold = chat_fold,
};
