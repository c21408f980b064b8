/* For tests of the views: a store in a fresh folder, and records fed to it as the log would. */
#ifndef TESTS_VIEWS_FEED_H
#define TESTS_VIEWS_FEED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/accounts.pb-c.h"
#include "proto/chat.pb-c.h"
#include "proto/ledger.pb-c.h"
#include "views/views.h"

/* A view under test, with the newest event it told. */
struct feed {
    char dir[64];
    struct views *views;
    struct view_listener listener[VIEW_TOPICS];
    enum verdict verdict;
    int64_t offset; /* of the last record */
    unsigned events;
    void (*on_event)(struct feed *f, const struct view_event *event);
    void *data;
    int64_t next[VIEW_TOPICS];
    int64_t now_ms;
};

/* One partition of each topic but lifecycle. */
void feed_open(struct feed *f);
void feed_close(struct feed *f); /* and removes the folder */
/* Closes and opens again, as a process that ended orderly. */
void feed_reopen(struct feed *f);
/* Feeds one packed record to partition 0 at the next offset and now_ms; the verdict. */
enum verdict feed_raw(struct feed *f, enum view_topic topic, const void *value, size_t len);
enum verdict feed_accounts(struct feed *f, const Weir__AccountsRecord *m);
enum verdict feed_chat(struct feed *f, const Weir__ChatRecord *m);
enum verdict feed_ledger(struct feed *f, const Weir__LedgerRecord *m);
void remove_folder(const char *dir);
void make_folder(char dir[64]);

#endif
