#include "feed.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "proto/messages.h"

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void remove_folder(const char *dir)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void make_folder(char dir[64])
{
    static const char template[] = "/tmp/weir-views-XXXXXX";
    memcpy(dir, template, sizeof(template));
    assert_non_null(mkdtemp(dir));
}

static void feed_event(void *data, const struct view_event *event)
{
    struct feed *f = data;
    f->events++;
    f->verdict = event->verdict;
    if (f->on_event != NULL) {
        f->on_event(f, event);
    }
}

static void feed_start(struct feed *f)
{
    static const uint32_t partitions[VIEW_TOPICS] = {
        [VIEW_ACCOUNTS] = 1, [VIEW_CHAT] = 1, [VIEW_LEDGER] = 1};
    struct error err;
    int rc = views_open_detached(NULL, f->dir, partitions, &f->views, &err);
    if (rc != 0) {
        fail_msg("%s", err.text);
    }
    for (unsigned t = 0; t < VIEW_TOPICS; t++) {
        f->listener[t].data = f;
        f->listener[t].event = feed_event;
        views_listen(f->views, (enum view_topic)t, &f->listener[t]);
        f->next[t] = views_offset(f->views, (enum view_topic)t, 0);
    }
}

void feed_open(struct feed *f)
{
    memset(f, 0, sizeof(*f));
    f->now_ms = 1700000000000;
    make_folder(f->dir);
    feed_start(f);
}

void feed_reopen(struct feed *f)
{
    views_close(f->views, NULL, NULL);
    feed_start(f);
}

void feed_close(struct feed *f)
{
    views_close(f->views, NULL, NULL);
    remove_folder(f->dir);
}

enum verdict feed_raw(struct feed *f, enum view_topic topic, const void *value, size_t len)
{
    struct error err;
    struct batch_record r = {
        .offset = LOG_OFFSET(f->next[topic]),
        .timestamp_ms = f->now_ms,
        .key_len = -1,
        .value = value,
        .value_len = (int32_t)len,
    };
    unsigned before = f->events;
    int rc = views_feed(f->views, topic, 0, &r, 1, &err);
    if (rc != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(f->events, before + 1);
    f->offset = f->next[topic]++;
    return f->verdict;
}

static enum verdict feed_message(struct feed *f, enum view_topic topic, const ProtobufCMessage *m)
{
    struct bytes b;
    bytes_init(&b, 1u << 20);
    message_pack(&b, m);
    assert_int_equal(bytes_error(&b), 0);
    enum verdict v = feed_raw(f, topic, b.data, b.len);
    bytes_close(&b);
    return v;
}

enum verdict feed_accounts(struct feed *f, const Weir__AccountsRecord *m)
{
    return feed_message(f, VIEW_ACCOUNTS, &m->base);
}

enum verdict feed_chat(struct feed *f, const Weir__ChatRecord *m)
{
    return feed_message(f, VIEW_CHAT, &m->base);
}

enum verdict feed_ledger(struct feed *f, const Weir__LedgerRecord *m)
{
    return feed_message(f, VIEW_LEDGER, &m->base);
}
