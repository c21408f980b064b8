/* Records of long ago fold to the state they always folded to. A hash here changes only with the
 * layout of the view, and then its version in view_ops does too, so that nodes fold anew instead of
 * reading the old layout. */
#include "feed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define FILE_BYTES_MAX 65536

static void verdict_put(struct feed *f, const struct view_event *event)
{
    char *text = f->data;
    size_t n = strlen(text);
    text[n] = (char)('0' + event->verdict);
    text[n + 1] = '\0';
}

/* A file is le16 length, le16 milliseconds since the last record, record; again and again. */
static void feed_file(struct feed *f, enum view_topic topic, const char *path)
{
    static uint8_t data[FILE_BYTES_MAX];
    struct cursor c;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    cursor_init(&c, data, fread(data, 1, sizeof(data), file));
    (void)fclose(file);
    while (cursor_left(&c) > 0) {
        size_t len = cursor_le16(&c);
        f->now_ms += cursor_le16(&c);
        const uint8_t *value = cursor_take(&c, len);
        assert_true(cursor_ok(&c));
        feed_raw(f, topic, value, len);
    }
}

static void check(enum view_topic topic, const char *path, const char *verdicts, const char *want)
{
    struct feed f;
    struct error err;
    uint8_t hash[32];
    char hex[65], got[128] = "";
    feed_open(&f);
    f.on_event = verdict_put;
    f.data = got;
    feed_file(&f, topic, path);
    assert_string_equal(got, verdicts);
    assert_int_equal(views_hash(f.views, topic, 0, hash, &err), 0);
    for (unsigned i = 0; i < 32; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    }
    assert_string_equal(hex, want);
    feed_close(&f);
}

static void accounts__folds_as_it_always_did(void **state)
{
    (void)state;
    check(VIEW_ACCOUNTS, "tests/golden/views/accounts_v1.bin", "02010200030030311",
          "af50e4a472eb6a01ae01f0d70f6065a8df2a7da3a731ec71f89f4747335c4780");
}

static void chat__folds_as_it_always_did(void **state)
{
    (void)state;
    check(VIEW_CHAT, "tests/golden/views/chat_v1.bin", "06000009905005030230600011",
          "08ca4223d711de34a382ea7d015a0cbdc7c550cea930f49247ce0c9e9450f886");
}

static void chat__folds_slow_mode_as_it_always_did(void **state)
{
    (void)state;
    check(VIEW_CHAT, "tests/golden/views/chat_v2.bin", "00;00600005;11100000;",
          "2f5a2d328d66e215bf0874555fcd3521672414c5b8dbd50c35931c506c494085");
}

static void ledger__folds_as_it_always_did(void **state)
{
    (void)state;
    check(VIEW_LEDGER, "tests/golden/views/ledger_v1.bin", "0600111171",
          "c7cc303210ff535dbcb86f5939d52137b716e191904a35e4810b1a7a1a0eef9d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts__folds_as_it_always_did),
        cmocka_unit_test(chat__folds_as_it_always_did),
        cmocka_unit_test(chat__folds_slow_mode_as_it_always_did),
        cmocka_unit_test(ledger__folds_as_it_always_did),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
