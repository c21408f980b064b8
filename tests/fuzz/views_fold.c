/* Any bytes as records of one view (FUZZ_TOPIC), each behind le16 length and le16 milliseconds
 * since the one before: nothing may crash, what is stored can be read back, and a view fed record
 * by record ends with the same bytes as one fed all at once. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "views/accounts.h"
#include "views/chat.h"
#include "views/ledger.h"

#define RECORDS_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct views *one, *all;
static char dirs[2][40] = {"/tmp/weir-fuzz-views-XXXXXX", "/tmp/weir-fuzz-views-XXXXXX"};
static int64_t now_ms = 1700000000000;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void finish(void)
{
    views_close(one, NULL, NULL);
    views_close(all, NULL, NULL);
    (void)nftw(dirs[0], remove_one, 8, FTW_DEPTH | FTW_PHYS);
    (void)nftw(dirs[1], remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void start(void)
{
    static const uint32_t partitions[VIEW_TOPICS] = {[FUZZ_TOPIC] = 1};
    struct error err;
    if (mkdtemp(dirs[0]) == NULL || mkdtemp(dirs[1]) == NULL ||
        views_open_detached(NULL, dirs[0], partitions, &one, &err) != 0 ||
        views_open_detached(NULL, dirs[1], partitions, &all, &err) != 0) {
        abort();
    }
    (void)atexit(finish);
}

static unsigned cut(const uint8_t *data, size_t size, struct batch_record *records)
{
    struct cursor c;
    unsigned n = 0;
    int64_t offset = views_offset(one, FUZZ_TOPIC, 0);
    cursor_init(&c, data, size);
    while (n < RECORDS_MAX && cursor_left(&c) >= 4) {
        size_t len = cursor_le16(&c);
        now_ms += cursor_le16(&c);
        len = len < cursor_left(&c) ? len : cursor_left(&c);
        records[n] = (struct batch_record){.offset = LOG_OFFSET(offset + n),
                                           .timestamp_ms = now_ms,
                                           .key_len = -1,
                                           .value = cursor_take(&c, len),
                                           .value_len = (int32_t)len};
        n++;
    }
    return n;
}

static void must(int rc)
{
    if (rc != 0) {
        abort();
    }
}

static int see_item(void *data, const struct chat_item *item)
{
    (void)data;
    return item->record == NULL;
}

static int see_user(void *data, const struct account_user *user)
{
    (void)data;
    return !account_name_valid(user->name);
}

static int see_channel(void *data, const struct account_channel *channel)
{
    (void)data;
    return !account_name_valid(channel->name);
}

static void read_back(void)
{
    uint64_t entries = 0;
    uint32_t slow_s = 0;
    int64_t wait_ms = 0;
    struct error err;
    if (FUZZ_TOPIC == VIEW_ACCOUNTS) {
        must(accounts_users(one, see_user, NULL));
        must(accounts_channels(one, see_channel, NULL));
    } else if (FUZZ_TOPIC == VIEW_CHAT) {
        must(chat_before(one, "demo", INT64_MAX, 50, see_item, NULL));
        must(chat_slow(one, "demo", &slow_s));
        must(chat_slow_wait(one, "demo", "alice", now_ms, &wait_ms));
        must(slow_s > CHAT_SLOW_SECONDS_MAX || wait_ms > (int64_t)slow_s * 1000);
    } else {
        must(ledger_recompute(one, 0, &entries, &err));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct batch_record records[RECORDS_MAX];
    uint8_t hash[2][32];
    struct error err;
    if (one == NULL) {
        start();
    }
    unsigned n = cut(data, size, records);
    for (unsigned i = 0; i < n; i++) {
        must(views_feed(one, FUZZ_TOPIC, 0, &records[i], 1, &err));
    }
    must(views_feed(all, FUZZ_TOPIC, 0, records, n, &err));
    /* The whole state is compared now and then: it grows from input to input. */
    if (n > 0 && views_offset(one, FUZZ_TOPIC, 0) % 64 == 0) {
        must(views_hash(one, FUZZ_TOPIC, 0, hash[0], &err));
        must(views_hash(all, FUZZ_TOPIC, 0, hash[1], &err));
        must(memcmp(hash[0], hash[1], 32));
        read_back();
    }
    return 0;
}
