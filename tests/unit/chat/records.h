/* Records fed to views as if they came from the log: partition 0 of each topic, the next offset. */
#ifndef TESTS_CHAT_RECORDS_H
#define TESTS_CHAT_RECORDS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/chat.pb-c.h"
#include "views/accounts.h"
#include "views/views.h"

extern struct views *fed_views;
extern int64_t next_offset[VIEW_TOPICS], now_ms;

/* protobuf-c's structs are not const; packing only reads. */
char *mutable(const char *text);
/* These return the record's offset. */
int64_t feed_packed(enum view_topic topic, const void *value, size_t n);
int64_t feed(enum view_topic topic, const ProtobufCMessage *message);
/* A second after the last one, so that no rate is met. */
int64_t feed_message(const char *room, const char *user, const char *text, const char *nonce);
/* A user with a token. */
void feed_user(const char *name, const uint8_t random[ACCOUNT_RANDOM_SIZE],
               char token[ACCOUNT_SECRET_MAX]);
void feed_channel(const char *name, const char *owner);

#endif
