/* Events of a room as the JSON that clients see (docs/chat.md). */
#include <string.h>

#include "nodes/chat/chat_priv.h"
#include "nodes/chat/json_out.h"
#include "proto/chat.pb-c.h"

static void put_head(struct bytes *out, const char *type, const Weir__ChatRecord *r,
                     const struct chat_event *e)
{
    bytes_printf(out, "{\"type\":\"%s\"", type);
    json_put_member(out, "room", r->room);
    json_put_number(out, "offset", e->offset);
    json_put_number(out, "time", e->append_ms);
}

static void put_badges(struct bytes *out, const struct chat_event *e, const char *user)
{
    bool owner = e->owner != NULL && strcmp(e->owner, user) == 0;
    bytes_printf(out, ",\"badges\":[%s", owner ? "{\"kind\":\"owner\"}" : "");
    if (e->badge.tier > 0) {
        bytes_printf(out, "%s{\"kind\":\"sub\",\"tier\":%u,\"months\":%u}", owner ? "," : "",
                     e->badge.tier, e->badge.months);
    }
    bytes_put_u8(out, ']');
}

static void put_message(struct bytes *out, const Weir__ChatRecord *r, const struct chat_event *e)
{
    const Weir__ChatMessage *m = r->message;
    put_head(out, "message", r, e);
    json_put_member(out, "user", m->user);
    json_put_member(out, "display_name", m->display_name[0] != '\0' ? m->display_name : m->user);
    json_put_member(out, "text", e->deleted_by == NULL ? m->text : "");
    json_put_member(out, "nonce", m->nonce);
    if (e->deleted_by != NULL) {
        json_put_member(out, "deleted_by", e->deleted_by);
    }
    put_badges(out, e, m->user);
}

static void put_ban(struct bytes *out, const Weir__ChatRecord *r, const struct chat_event *e)
{
    put_head(out, "ban", r, e);
    json_put_member(out, "user", r->ban->user);
    json_put_member(out, "by", r->ban->by);
    json_put_member(out, "reason", r->ban->reason);
    json_put_number(out, "seconds", r->ban->seconds);
    json_put_number(out, "until",
                    r->ban->seconds == 0 ? 0 : e->append_ms + (int64_t)r->ban->seconds * 1000);
}

static void put_notice(struct bytes *out, const Weir__ChatRecord *r, const struct chat_event *e)
{
    put_head(out, "notice", r, e);
    json_put_member(out, "kind", r->notice->kind);
    json_put_member(out, "user", r->notice->user);
    json_put_number(out, "tier", r->notice->tier);
    json_put_number(out, "months", r->notice->months);
    json_put_member(out, "text", r->notice->text);
}

void chat_event_put(struct bytes *out, const struct chat_event *e)
{
    const Weir__ChatRecord *r = e->record;
    switch (r->body_case) {
    case WEIR__CHAT_RECORD__BODY_MESSAGE:
        put_message(out, r, e);
        break;
    case WEIR__CHAT_RECORD__BODY_BAN:
        put_ban(out, r, e);
        break;
    case WEIR__CHAT_RECORD__BODY_UNBAN:
        put_head(out, "unban", r, e);
        json_put_member(out, "user", r->unban->user);
        json_put_member(out, "by", r->unban->by);
        break;
    case WEIR__CHAT_RECORD__BODY_DELETE:
        put_head(out, "deleted", r, e);
        json_put_number(out, "target", r->delete_->offset);
        json_put_member(out, "by", r->delete_->by);
        break;
    case WEIR__CHAT_RECORD__BODY_SLOW:
        put_head(out, "slow", r, e);
        json_put_number(out, "seconds", r->slow->seconds);
        json_put_member(out, "by", r->slow->by);
        break;
    case WEIR__CHAT_RECORD__BODY_NOTICE:
        put_notice(out, r, e);
        break;
    default:
        put_head(out, "unknown", r, e);
        break;
    }
    bytes_put_u8(out, '}');
}
