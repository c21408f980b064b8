/* Accounts: users, channels, tokens and stream keys, as the topic `accounts` tells them. The owner
 * of what is stored is the fold (accounts.c); these are the queries. Answers are copies. Loop
 * thread of the views.
 *
 * All queries: 0, WEIR_ENOTFOUND, WEIR_EUNAVAILABLE (the topic is not known yet: early in a node's
 * life), or an error of the store.
 *
 * Secrets are 32 random bytes in base64url (43 characters) behind a name, so that the holder can be
 * found without an index over all partitions: tokens are `wt_<user>_<43>`, stream keys
 * `live_<channel>_<43>`. Only BLAKE2b-256 of the whole string is stored. */
#ifndef VIEWS_ACCOUNTS_H
#define VIEWS_ACCOUNTS_H

#include "views/views.h"

#define ACCOUNT_NAME_MIN     2
#define ACCOUNT_NAME_MAX     25
#define ACCOUNT_TITLE_MAX    560 /* bytes; and 140 code points */
#define ACCOUNT_CATEGORY_MAX 64
#define ACCOUNT_LANGUAGE_MAX 16
#define ACCOUNT_TAGS_MAX     10
#define ACCOUNT_TAG_MAX      25
#define ACCOUNT_SCOPES_MAX   8
#define ACCOUNT_SCOPE_MAX    32
#define ACCOUNT_TOKENS_MAX   64 /* per user; more are void */
#define ACCOUNT_HASH_SIZE    32
#define ACCOUNT_RANDOM_SIZE  32
/* "live_" name "_" 43 characters and the end. */
#define ACCOUNT_SECRET_MAX (5 + ACCOUNT_NAME_MAX + 1 + 43 + 1)

struct account_user {
    char name[ACCOUNT_NAME_MAX + 1];
    char display_name[ACCOUNT_NAME_MAX + 1];
    int64_t created_ms;
    uint32_t n_tokens;
};

struct account_channel {
    char name[ACCOUNT_NAME_MAX + 1];
    char owner[ACCOUNT_NAME_MAX + 1];
    char title[ACCOUNT_TITLE_MAX + 1];
    char category[ACCOUNT_CATEGORY_MAX + 1];
    char language[ACCOUNT_LANGUAGE_MAX + 1];
    char tags[ACCOUNT_TAGS_MAX][ACCOUNT_TAG_MAX + 1];
    uint32_t n_tags;
    int64_t created_ms;
    bool has_key;
    uint8_t key_hash[ACCOUNT_HASH_SIZE];
};

struct account_identity {
    struct account_user user;
    char scopes[ACCOUNT_SCOPES_MAX][ACCOUNT_SCOPE_MAX + 1];
    uint32_t n_scopes;
};

/* What the fold adds for listeners of VIEW_ACCOUNTS. */
struct account_outcome {
    const char *user;    /* the user the record is about, or NULL */
    const char *channel; /* the channel the record is about, or NULL */
};

/* [a-z0-9_]{2,25} */
bool account_name_valid(const char *name);

int accounts_user(struct views *views, const char *name, struct account_user *ret_user);
int accounts_channel(struct views *views, const char *name, struct account_channel *ret_channel);
/* Whose token is it; WEIR_EAUTH when it is nobody's (malformed, unknown, revoked). */
int accounts_by_token(struct views *views, const char *token,
                      struct account_identity *ret_identity);
bool account_has_scope(const struct account_identity *identity, const char *scope);
/* Which channel may be published to with this key; WEIR_EAUTH when none. */
int accounts_by_stream_key(struct views *views, const char *key,
                           struct account_channel *ret_channel);
/* All of them, by partition and then by name; non-zero from cb ends the walk and is returned. */
typedef int (*accounts_user_cb)(void *data, const struct account_user *user);
int accounts_users(struct views *views, accounts_user_cb cb, void *data);
typedef int (*accounts_channel_cb)(void *data, const struct account_channel *channel);
int accounts_channels(struct views *views, accounts_channel_cb cb, void *data);

/* Writes a new secret made of `random`, and its hash: the record TokenIssue or StreamKeySet carries
 * the hash, the caller shows the secret once. Pure. `name` is valid. */
void account_token_make(const char *user, const uint8_t random[ACCOUNT_RANDOM_SIZE],
                        char ret_token[ACCOUNT_SECRET_MAX], uint8_t ret_hash[ACCOUNT_HASH_SIZE]);
void account_stream_key_make(const char *channel, const uint8_t random[ACCOUNT_RANDOM_SIZE],
                             char ret_key[ACCOUNT_SECRET_MAX], uint8_t ret_hash[ACCOUNT_HASH_SIZE]);

#endif
