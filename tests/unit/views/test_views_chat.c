#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "views/chat.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

static Weir__ChatRecord record_of(Weir__ChatRecord__BodyCase body)
{
    Weir__ChatRecord r = WEIR__CHAT_RECORD__INIT;
    r.room = TEXT("demo");
    r.body_case = body;
    return r;
}

static enum verdict say(struct feed *f, const char *user, const char *text, const char *nonce)
{
    Weir__ChatMessage m = WEIR__CHAT_MESSAGE__INIT;
    Weir__ChatRecord r = record_of(WEIR__CHAT_RECORD__BODY_MESSAGE);
    m.user = TEXT(user);
    m.text = TEXT(text);
    m.nonce = TEXT(nonce);
    r.message = &m;
    return feed_chat(f, &r);
}

static enum verdict say_as_owner(struct feed *f, const char *user, const char *text)
{
    Weir__ChatMessage m = WEIR__CHAT_MESSAGE__INIT;
    Weir__ChatRecord r = record_of(WEIR__CHAT_RECORD__BODY_MESSAGE);
    m.user = TEXT(user);
    m.text = TEXT(text);
    m.exempt = true;
    r.message = &m;
    return feed_chat(f, &r);
}

static enum verdict slow(struct feed *f, uint32_t seconds)
{
    Weir__ChatSlow m = WEIR__CHAT_SLOW__INIT;
    Weir__ChatRecord r = record_of(WEIR__CHAT_RECORD__BODY_SLOW);
    m.seconds = seconds;
    m.by = TEXT("owner");
    r.slow = &m;
    return feed_chat(f, &r);
}

static enum verdict ban(struct feed *f, const char *user, uint32_t seconds)
{
    Weir__ChatBan m = WEIR__CHAT_BAN__INIT;
    Weir__ChatRecord r = record_of(WEIR__CHAT_RECORD__BODY_BAN);
    m.user = TEXT(user);
    m.by = TEXT("owner");
    m.reason = TEXT("spam");
    m.seconds = seconds;
    r.ban = &m;
    return feed_chat(f, &r);
}

static enum verdict unban(struct feed *f, const char *user)
{
    Weir__ChatUnban m = WEIR__CHAT_UNBAN__INIT;
    Weir__ChatRecord r = record_of(WEIR__CHAT_RECORD__BODY_UNBAN);
    m.user = TEXT(user);
    m.by = TEXT("owner");
    r.unban = &m;
    return feed_chat(f, &r);
}

static enum verdict erase(struct feed *f, int64_t offset)
{
    Weir__ChatDelete m = WEIR__CHAT_DELETE__INIT;
    Weir__ChatRecord r = record_of(WEIR__CHAT_RECORD__BODY_DELETE);
    m.offset = offset;
    m.by = TEXT("owner");
    r.delete_ = &m;
    return feed_chat(f, &r);
}

static enum verdict notice(struct feed *f, int64_t source, const char *user, uint32_t tier,
                           int64_t expires_ms)
{
    Weir__ChatNotice m = WEIR__CHAT_NOTICE__INIT;
    Weir__ChatRecord r = record_of(WEIR__CHAT_RECORD__BODY_NOTICE);
    m.source_topic = TEXT("ledger");
    m.source_offset = source;
    m.kind = TEXT("sub");
    m.user = TEXT(user);
    m.tier = tier;
    m.months = 1;
    m.expires_ms = expires_ms;
    m.text = TEXT("alice subscribed");
    r.notice = &m;
    return feed_chat(f, &r);
}

static void later(struct feed *f, int64_t ms)
{
    f->now_ms += ms;
}

static void copy_outcome(struct feed *f, const struct view_event *event)
{
    if (event->outcome != NULL) {
        *(struct chat_outcome *)f->data = *(const struct chat_outcome *)event->outcome;
    }
}

struct seen {
    unsigned n;
    int64_t offsets[16];
    char text[16][64];
    char deleted_by[16][26];
    uint32_t tier[16];
};

static int see(void *data, const struct chat_item *item)
{
    struct seen *s = data;
    const Weir__ChatRecord *m = item->record;
    assert_true(s->n < 16);
    s->offsets[s->n] = item->offset;
    s->tier[s->n] = item->badge.tier;
    snprintf(s->text[s->n], sizeof(s->text[0]), "%s",
             m->body_case == WEIR__CHAT_RECORD__BODY_MESSAGE  ? m->message->text
             : m->body_case == WEIR__CHAT_RECORD__BODY_NOTICE ? m->notice->text
                                                              : "");
    snprintf(s->deleted_by[s->n], sizeof(s->deleted_by[0]), "%s",
             item->deleted_by == NULL ? "" : item->deleted_by);
    s->n++;
    return 0;
}

static void message__is_kept_and_read_in_both_directions(void **state)
{
    struct feed f;
    struct seen s = {0};
    (void)state;
    feed_open(&f);
    assert_int_equal(say(&f, "alice", "one", ""), VERDICT_OK);
    assert_int_equal(say(&f, "bob", "two", ""), VERDICT_OK);
    assert_int_equal(say(&f, "carol", "three", ""), VERDICT_OK);
    assert_int_equal(chat_before(f.views, "demo", INT64_MAX, 2, see, &s), 0);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.text[0], "three");
    assert_string_equal(s.text[1], "two");
    s.n = 0;
    assert_int_equal(chat_from(f.views, "demo", 1, 10, see, &s), 0);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.text[0], "two");
    s.n = 0;
    assert_int_equal(chat_before(f.views, "demo", 2, 10, see, &s), 0);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.text[0], "two");
    s.n = 0;
    assert_int_equal(chat_from(f.views, "other", 0, 10, see, &s), 0);
    assert_int_equal(s.n, 0);
    feed_close(&f);
}

static void message__is_void_when_its_text_is_no_good(void **state)
{
    struct feed f;
    char text[CHAT_TEXT_CODEPOINTS_MAX + 2];
    (void)state;
    feed_open(&f);
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(say(&f, "alice", text, ""), VERDICT_MALFORMED);
    text[CHAT_TEXT_CODEPOINTS_MAX] = '\0';
    assert_int_equal(say(&f, "alice", text, ""), VERDICT_OK);
    assert_int_equal(say(&f, "alice", "", ""), VERDICT_MALFORMED);
    assert_int_equal(say(&f, "alice", "bell\a", ""), VERDICT_MALFORMED);
    assert_int_equal(say(&f, "alice", "\xff\xfe", ""), VERDICT_MALFORMED);
    assert_int_equal(say(&f, "alice", "\xed\xa0\x80", ""), VERDICT_MALFORMED);
    assert_int_equal(say(&f, "Alice", "hi", ""), VERDICT_MALFORMED);
    assert_int_equal(feed_raw(&f, VIEW_CHAT, "\x0a\xff", 2), VERDICT_MALFORMED);
    assert_int_equal(feed_raw(&f, VIEW_CHAT, "", 0), VERDICT_MALFORMED);
    feed_close(&f);
}

static void message__sent_twice_counts_once(void **state)
{
    struct feed f;
    struct chat_outcome o = {0};
    (void)state;
    feed_open(&f);
    f.on_event = copy_outcome;
    f.data = &o;
    assert_int_equal(say(&f, "alice", "hi", "n1"), VERDICT_OK);
    int64_t first = f.offset;
    assert_int_equal(ban(&f, "alice", 0), VERDICT_OK);
    assert_int_equal(say(&f, "alice", "hi", "n1"), VERDICT_DUPLICATE);
    assert_int_equal(o.duplicate_of, first);
    assert_int_equal(say(&f, "bob", "hi", "n1"), VERDICT_OK);
    feed_close(&f);
}

static void message__is_void_while_its_author_is_banned(void **state)
{
    struct feed f;
    struct chat_ban b;
    (void)state;
    feed_open(&f);
    assert_int_equal(ban(&f, "alice", 10), VERDICT_OK);
    later(&f, 9999);
    assert_int_equal(say(&f, "alice", "still", ""), VERDICT_BANNED);
    assert_int_equal(chat_ban_of(f.views, "demo", "alice", f.now_ms, &b), 0);
    assert_string_equal(b.by, "owner");
    assert_string_equal(b.reason, "spam");
    later(&f, 1);
    assert_int_equal(say(&f, "alice", "free", ""), VERDICT_OK);
    assert_int_equal(chat_ban_of(f.views, "demo", "alice", f.now_ms, &b), WEIR_ENOTFOUND);
    assert_int_equal(ban(&f, "bob", 0), VERDICT_OK);
    later(&f, 1000000000000);
    assert_int_equal(say(&f, "bob", "never", ""), VERDICT_BANNED);
    assert_int_equal(unban(&f, "bob"), VERDICT_OK);
    assert_int_equal(unban(&f, "bob"), VERDICT_NOT_FOUND);
    assert_int_equal(say(&f, "bob", "hello", ""), VERDICT_OK);
    feed_close(&f);
}

static int count_ban(void *data, const struct chat_ban *b)
{
    (void)b;
    (*(unsigned *)data)++;
    return 0;
}

static void bans__are_listed_while_they_hold(void **state)
{
    struct feed f;
    unsigned n = 0;
    (void)state;
    feed_open(&f);
    ban(&f, "alice", 10);
    ban(&f, "bob", 0);
    assert_int_equal(chat_bans(f.views, "demo", f.now_ms, count_ban, &n), 0);
    assert_int_equal(n, 2);
    n = 0;
    assert_int_equal(chat_bans(f.views, "demo", f.now_ms + 10000, count_ban, &n), 0);
    assert_int_equal(n, 1);
    feed_close(&f);
}

static void message__passes_once_a_second_with_a_burst_of_jitter(void **state)
{
    struct feed f;
    struct chat_outcome o = {0};
    (void)state;
    feed_open(&f);
    f.on_event = copy_outcome;
    f.data = &o;
    for (int i = 0; i < 1 + CHAT_BURST; i++) {
        assert_int_equal(say(&f, "alice", "hi", ""), VERDICT_OK);
    }
    assert_int_equal(say(&f, "alice", "hi", ""), VERDICT_RATE);
    assert_int_equal(o.retry_after_ms, CHAT_RATE_MS);
    assert_int_equal(say(&f, "bob", "hi", ""), VERDICT_OK);
    for (int i = 0; i < 100; i++) { /* once a second is never refused */
        later(&f, CHAT_RATE_MS);
        assert_int_equal(say(&f, "alice", "hi", ""), VERDICT_OK);
    }
    assert_int_equal(say(&f, "alice", "hi", ""), VERDICT_RATE);
    feed_close(&f);
}

static void message__is_void_until_slow_mode_lets_its_author_speak_again(void **state)
{
    struct feed f;
    struct chat_outcome o = {0};
    (void)state;
    feed_open(&f);
    f.on_event = copy_outcome;
    f.data = &o;
    assert_int_equal(say(&f, "alice", "before", ""), VERDICT_OK);
    later(&f, 1000);
    assert_int_equal(slow(&f, 10), VERDICT_OK);
    later(&f, 8999);
    assert_int_equal(say(&f, "alice", "early", ""), VERDICT_SLOW); /* the older message counts */
    assert_int_equal(o.retry_after_ms, 1);
    assert_int_equal(say(&f, "bob", "first", ""), VERDICT_OK);
    later(&f, 1);
    assert_int_equal(say(&f, "alice", "in time", "n"), VERDICT_OK);
    assert_int_equal(say(&f, "alice", "in time", "n"), VERDICT_DUPLICATE);
    later(&f, 5000);
    assert_int_equal(say(&f, "alice", "early", ""), VERDICT_SLOW);
    assert_int_equal(o.retry_after_ms, 5000); /* from the accepted one, not from the refused */
    assert_int_equal(slow(&f, 3), VERDICT_OK);
    assert_int_equal(say(&f, "alice", "shorter", ""), VERDICT_OK);
    assert_int_equal(slow(&f, 0), VERDICT_OK);
    assert_int_equal(say(&f, "alice", "off", ""), VERDICT_OK);
    feed_close(&f);
}

static void slow_mode__does_not_hold_for_the_owner_nor_in_other_rooms(void **state)
{
    struct feed f;
    uint32_t seconds = 99;
    int64_t wait_ms = 99;
    (void)state;
    feed_open(&f);
    assert_int_equal(slow(&f, CHAT_SLOW_SECONDS_MAX + 1), VERDICT_MALFORMED);
    assert_int_equal(chat_slow(f.views, "demo", &seconds), 0);
    assert_int_equal(seconds, 0);
    assert_int_equal(slow(&f, CHAT_SLOW_SECONDS_MAX), VERDICT_OK);
    for (int i = 0; i < 1 + CHAT_BURST; i++) {
        assert_int_equal(say_as_owner(&f, "owner", "hi"), VERDICT_OK);
    }
    assert_int_equal(say_as_owner(&f, "owner", "hi"), VERDICT_RATE);
    assert_int_equal(chat_slow(f.views, "demo", &seconds), 0);
    assert_int_equal(seconds, CHAT_SLOW_SECONDS_MAX);
    assert_int_equal(chat_slow(f.views, "other", &seconds), 0);
    assert_int_equal(seconds, 0);
    assert_int_equal(chat_slow_wait(f.views, "other", "alice", f.now_ms, &wait_ms), 0);
    assert_int_equal(wait_ms, 0);
    feed_close(&f);
}

static void slow_mode__outlives_the_process(void **state)
{
    struct feed f;
    uint32_t seconds = 0;
    int64_t wait_ms = 0;
    (void)state;
    feed_open(&f);
    assert_int_equal(slow(&f, 60), VERDICT_OK);
    assert_int_equal(say(&f, "alice", "hi", ""), VERDICT_OK);
    int64_t said_ms = f.now_ms;
    feed_reopen(&f);
    assert_int_equal(chat_slow(f.views, "demo", &seconds), 0);
    assert_int_equal(seconds, 60);
    assert_int_equal(chat_slow_wait(f.views, "demo", "alice", said_ms + 1, &wait_ms), 0);
    assert_int_equal(wait_ms, 59999);
    assert_int_equal(chat_slow_wait(f.views, "demo", "alice", said_ms - 1, &wait_ms), 0);
    assert_int_equal(wait_ms, 0); /* a clock behind the log's */
    assert_int_equal(chat_slow_wait(f.views, "demo", "bob", said_ms, &wait_ms), 0);
    assert_int_equal(wait_ms, 0);
    later(&f, 59999);
    assert_int_equal(say(&f, "alice", "early", ""), VERDICT_SLOW);
    later(&f, 1);
    assert_int_equal(say(&f, "alice", "in time", ""), VERDICT_OK);
    feed_close(&f);
}

static void slow_mode__is_kept_while_the_history_goes(void **state)
{
    struct feed f;
    char user[16];
    (void)state;
    feed_open(&f);
    assert_int_equal(slow(&f, 3600), VERDICT_OK);
    assert_int_equal(say(&f, "early", "first", ""), VERDICT_OK);
    for (int i = 0; i < CHAT_KEPT_MAX + 5; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        assert_int_equal(say(&f, user, "hi", ""), VERDICT_OK);
    }
    assert_int_equal(say(&f, "early", "again", ""), VERDICT_SLOW);
    later(&f, 3600000);
    assert_int_equal(say(&f, "early", "again", ""), VERDICT_OK);
    feed_close(&f);
}

static void deletion__marks_the_message_once(void **state)
{
    struct feed f;
    struct seen s = {0};
    (void)state;
    feed_open(&f);
    say(&f, "alice", "rude", "");
    assert_int_equal(erase(&f, 0), VERDICT_OK);
    assert_int_equal(erase(&f, 0), VERDICT_EXISTS);
    assert_int_equal(erase(&f, 77), VERDICT_NOT_FOUND);
    assert_int_equal(chat_from(f.views, "demo", 0, 10, see, &s), 0);
    assert_int_equal(s.n, 2); /* the deletion is kept too */
    assert_int_equal(s.offsets[1], 1);
    assert_string_equal(s.deleted_by[0], "owner");
    assert_string_equal(s.text[0], "rude");
    feed_close(&f);
}

static void notice__counts_once_and_gives_the_badge(void **state)
{
    struct feed f;
    struct seen s = {0};
    struct chat_badge badge;
    bool seen = false;
    (void)state;
    feed_open(&f);
    assert_int_equal(notice(&f, 7, "alice", 2, f.now_ms + 5000), VERDICT_OK);
    assert_int_equal(notice(&f, 7, "alice", 3, f.now_ms + 9000), VERDICT_DUPLICATE);
    assert_int_equal(notice(&f, 5, "bob", 1, f.now_ms + 5000), VERDICT_OK);
    assert_int_equal(chat_notice_seen(f.views, "demo", "ledger", 0, 5, &seen), 0);
    assert_true(seen);
    assert_int_equal(chat_notice_seen(f.views, "demo", "ledger", 0, 6, &seen), 0);
    assert_false(seen);
    assert_int_equal(chat_notice_seen(f.views, "demo", "ledger", 1, 5, &seen), 0);
    assert_false(seen);
    assert_int_equal(say(&f, "alice", "with badge", ""), VERDICT_OK);
    assert_int_equal(chat_badge_of(f.views, "demo", "alice", f.now_ms, &badge), 0);
    assert_int_equal(badge.tier, 2);
    later(&f, 5000);
    assert_int_equal(chat_badge_of(f.views, "demo", "alice", f.now_ms, &badge), 0);
    assert_int_equal(badge.tier, 0);
    assert_int_equal(say(&f, "alice", "without", ""), VERDICT_OK);
    assert_int_equal(chat_before(f.views, "demo", INT64_MAX, 2, see, &s), 0);
    assert_int_equal(s.tier[0], 0);
    assert_int_equal(s.tier[1], 2);
    feed_close(&f);
}

static void room__keeps_a_bounded_history_and_remembers_what_it_noticed(void **state)
{
    struct feed f;
    char user[16], nonce[16];
    int64_t from = -1;
    bool seen = false;
    (void)state;
    feed_open(&f);
    assert_int_equal(say(&f, "early", "first", "n"), VERDICT_OK);
    assert_int_equal(notice(&f, 3, "alice", 1, f.now_ms + 1), VERDICT_OK);
    for (int i = 0; i < CHAT_KEPT_MAX + 5; i++) {
        snprintf(user, sizeof(user), "user%d", i % 1000);
        snprintf(nonce, sizeof(nonce), "%d", i);
        later(&f, 2);
        assert_int_equal(say(&f, user, "hi", nonce), VERDICT_OK);
    }
    assert_int_equal(chat_kept_from(f.views, "demo", &from), 0);
    assert_true(from > 2 && f.offset - from >= CHAT_KEPT_MIN - 1 &&
                f.offset - from < CHAT_KEPT_MAX);
    struct seen s = {0};
    assert_int_equal(chat_from(f.views, "demo", 0, 1, see, &s), 0);
    assert_int_equal(s.offsets[0], from);
    assert_int_equal(say(&f, "early", "again", "n"), VERDICT_OK); /* its nonce went with it */
    assert_int_equal(notice(&f, 3, "alice", 1, f.now_ms + 1), VERDICT_DUPLICATE);
    assert_int_equal(notice(&f, 2, "alice", 1, f.now_ms + 1), VERDICT_DUPLICATE);
    assert_int_equal(notice(&f, 4, "alice", 1, f.now_ms + 1), VERDICT_OK);
    assert_int_equal(chat_notice_seen(f.views, "demo", "ledger", 0, 3, &seen), 0);
    assert_true(seen);
    feed_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message__is_kept_and_read_in_both_directions),
        cmocka_unit_test(message__is_void_when_its_text_is_no_good),
        cmocka_unit_test(message__sent_twice_counts_once),
        cmocka_unit_test(message__is_void_while_its_author_is_banned),
        cmocka_unit_test(bans__are_listed_while_they_hold),
        cmocka_unit_test(message__passes_once_a_second_with_a_burst_of_jitter),
        cmocka_unit_test(message__is_void_until_slow_mode_lets_its_author_speak_again),
        cmocka_unit_test(slow_mode__does_not_hold_for_the_owner_nor_in_other_rooms),
        cmocka_unit_test(slow_mode__outlives_the_process),
        cmocka_unit_test(slow_mode__is_kept_while_the_history_goes),
        cmocka_unit_test(deletion__marks_the_message_once),
        cmocka_unit_test(notice__counts_once_and_gives_the_badge),
        cmocka_unit_test(room__keeps_a_bounded_history_and_remembers_what_it_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
