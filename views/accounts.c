/* Keys of a partition, and their values (strings end with NUL):
 *
 *   'u' user      display name, be64 created ms, be32 tokens
 *   'c' channel   owner, be64 created ms, u8 has key, key hash[32], title, category, language,
 *                 u8 tags, tag ...
 *   't' hash[32]  user, u8 scopes, scope ...
 *
 * Users and channels live in the partition of their name, a token in its user's. That a channel's
 * owner exists is checked by who produces the record: the owner may live in another partition, in
 * another order. */
#include "views/accounts.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "views/fold.h"
#include "views/priv.h"
#include "views/text.h"

#define RANDOM_CHARS      43
#define CHANNEL_BYTES_MAX 2048

static const char token_prefix[] = "wt_", stream_key_prefix[] = "live_";

bool account_name_valid(const char *name)
{
    return text_is_word(name, ACCOUNT_NAME_MIN, ACCOUNT_NAME_MAX);
}

/* --- Stored values --- */

struct key {
    size_t len;
    uint8_t data[1 + 64];
};

static struct key key_of(char kind, const void *id, size_t len)
{
    struct key k = {.len = 1 + len};
    assert(len <= sizeof(k.data) - 1);
    k.data[0] = (uint8_t)kind;
    memcpy(k.data + 1, id, len);
    return k;
}

static struct key name_key(char kind, const char *name)
{
    return key_of(kind, name, strlen(name));
}

static void user_encode(struct bytes *b, const struct account_user *u)
{
    text_put(b, u->display_name);
    bytes_put_be64(b, (uint64_t)u->created_ms);
    bytes_put_be32(b, u->n_tokens);
}

static int user_decode(const char *name, const uint8_t *value, size_t len, struct account_user *u)
{
    struct cursor c;
    memset(u, 0, sizeof(*u));
    text_copy(u->name, sizeof(u->name), name);
    cursor_init(&c, value, len);
    text_take(&c, u->display_name, sizeof(u->display_name));
    u->created_ms = (int64_t)cursor_be64(&c);
    u->n_tokens = cursor_be32(&c);
    return cursor_ok(&c) ? 0 : WEIR_ECORRUPT;
}

static void channel_encode(struct bytes *b, const struct account_channel *ch)
{
    text_put(b, ch->owner);
    bytes_put_be64(b, (uint64_t)ch->created_ms);
    bytes_put_u8(b, ch->has_key);
    bytes_put(b, ch->key_hash, ACCOUNT_HASH_SIZE);
    text_put(b, ch->title);
    text_put(b, ch->category);
    text_put(b, ch->language);
    bytes_put_u8(b, (uint8_t)ch->n_tags);
    for (uint32_t i = 0; i < ch->n_tags; i++) {
        text_put(b, ch->tags[i]);
    }
}

static int channel_decode(const char *name, const uint8_t *value, size_t len,
                          struct account_channel *ch)
{
    struct cursor c;
    memset(ch, 0, sizeof(*ch));
    text_copy(ch->name, sizeof(ch->name), name);
    cursor_init(&c, value, len);
    text_take(&c, ch->owner, sizeof(ch->owner));
    ch->created_ms = (int64_t)cursor_be64(&c);
    ch->has_key = cursor_u8(&c) != 0;
    const uint8_t *hash = cursor_take(&c, ACCOUNT_HASH_SIZE);
    if (hash != NULL) {
        memcpy(ch->key_hash, hash, ACCOUNT_HASH_SIZE);
    }
    text_take(&c, ch->title, sizeof(ch->title));
    text_take(&c, ch->category, sizeof(ch->category));
    text_take(&c, ch->language, sizeof(ch->language));
    uint32_t n = cursor_u8(&c);
    for (uint32_t i = 0; i < n && i < ACCOUNT_TAGS_MAX && cursor_ok(&c); i++) {
        text_take(&c, ch->tags[i], sizeof(ch->tags[i]));
        ch->n_tags = i + 1;
    }
    return cursor_ok(&c) && n <= ACCOUNT_TAGS_MAX ? 0 : WEIR_ECORRUPT;
}

static int user_get(struct fold_txn *txn, const char *name, struct account_user *ret)
{
    const uint8_t *value = NULL;
    size_t len = 0;
    struct key k = name_key('u', name);
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    return rc == 0 ? user_decode(name, value, len, ret) : rc;
}

static int channel_get(struct fold_txn *txn, const char *name, struct account_channel *ret)
{
    const uint8_t *value = NULL;
    size_t len = 0;
    struct key k = name_key('c', name);
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    return rc == 0 ? channel_decode(name, value, len, ret) : rc;
}

static int put_bytes(struct fold_txn *txn, const struct key *k, struct bytes *b)
{
    int rc = bytes_error(b);
    if (rc == 0) {
        rc = fold_put(txn, k->data, k->len, b->data, b->len);
    }
    bytes_close(b);
    return rc;
}

static int user_put(struct fold_txn *txn, const struct account_user *u)
{
    struct bytes b;
    struct key k = name_key('u', u->name);
    bytes_init(&b, 256);
    user_encode(&b, u);
    return put_bytes(txn, &k, &b);
}

static int channel_put(struct fold_txn *txn, const struct account_channel *ch)
{
    struct bytes b;
    struct key k = name_key('c', ch->name);
    bytes_init(&b, CHANNEL_BYTES_MAX);
    channel_encode(&b, ch);
    return put_bytes(txn, &k, &b);
}

/* --- The fold: each returns 0 and a verdict, or an error of the store --- */

struct account_fold {
    struct fold_txn *txn;
    const struct fold_record *record;
    struct account_outcome *outcome;
    enum verdict verdict;
};

static int fold_user_create(struct account_fold *f, const Weir__UserCreate *m)
{
    struct account_user u;
    if (!account_name_valid(m->name) || strcasecmp(m->name, m->display_name) != 0) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = user_get(f->txn, m->name, &u);
    if (rc != WEIR_ENOTFOUND) {
        f->verdict = VERDICT_EXISTS;
        return rc;
    }
    u = (struct account_user){.created_ms = f->record->append_ms};
    text_copy(u.name, sizeof(u.name), m->name);
    text_copy(u.display_name, sizeof(u.display_name), m->display_name);
    f->outcome->user = m->name;
    return user_put(f->txn, &u);
}

static bool title_valid(const char *title)
{
    size_t len = strlen(title), points = 0;
    return len <= ACCOUNT_TITLE_MAX && text_valid(title, len, &points) &&
           points <= ACCOUNT_TITLE_MAX / 4;
}

static int fold_channel_create(struct account_fold *f, const Weir__ChannelCreate *m)
{
    struct account_channel ch;
    if (!account_name_valid(m->name) || !account_name_valid(m->owner) || !title_valid(m->title)) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = channel_get(f->txn, m->name, &ch);
    if (rc != WEIR_ENOTFOUND) {
        f->verdict = VERDICT_EXISTS;
        return rc;
    }
    memset(&ch, 0, sizeof(ch));
    ch.created_ms = f->record->append_ms;
    text_copy(ch.name, sizeof(ch.name), m->name);
    text_copy(ch.owner, sizeof(ch.owner), m->owner);
    text_copy(ch.title, sizeof(ch.title), m->title);
    f->outcome->channel = m->name;
    return channel_put(f->txn, &ch);
}

/* Sets *ret; when it can't, the verdict says why (or the return does). */
static int channel_wanted(struct account_fold *f, const char *name, struct account_channel *ret)
{
    if (!account_name_valid(name)) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = channel_get(f->txn, name, ret);
    f->verdict = rc == 0 ? VERDICT_OK : VERDICT_NOT_FOUND;
    f->outcome->channel = rc == 0 ? name : NULL;
    return rc == WEIR_ENOTFOUND ? 0 : rc;
}

static bool update_valid(const Weir__ChannelUpdate *m)
{
    if (!title_valid(m->title) || !text_valid_within(m->category, ACCOUNT_CATEGORY_MAX) ||
        !text_valid_within(m->language, ACCOUNT_LANGUAGE_MAX) || m->n_tags > ACCOUNT_TAGS_MAX) {
        return false;
    }
    for (size_t i = 0; i < m->n_tags; i++) {
        if (m->tags[i][0] == '\0' || !text_valid_within(m->tags[i], ACCOUNT_TAG_MAX)) {
            return false;
        }
    }
    return true;
}

static int fold_channel_update(struct account_fold *f, const Weir__ChannelUpdate *m)
{
    struct account_channel ch;
    if (!update_valid(m)) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = channel_wanted(f, m->name, &ch);
    if (rc != 0 || f->verdict != VERDICT_OK) {
        return rc;
    }
    /* The record is the whole new description. */
    text_copy(ch.title, sizeof(ch.title), m->title);
    text_copy(ch.category, sizeof(ch.category), m->category);
    text_copy(ch.language, sizeof(ch.language), m->language);
    ch.n_tags = (uint32_t)m->n_tags;
    memset(ch.tags, 0, sizeof(ch.tags));
    for (uint32_t i = 0; i < ch.n_tags; i++) {
        text_copy(ch.tags[i], sizeof(ch.tags[i]), m->tags[i]);
    }
    return channel_put(f->txn, &ch);
}

static int fold_stream_key(struct account_fold *f, const Weir__StreamKeySet *m)
{
    struct account_channel ch;
    if (m->key_hash.len != ACCOUNT_HASH_SIZE) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = channel_wanted(f, m->channel, &ch);
    if (rc != 0 || f->verdict != VERDICT_OK) {
        return rc;
    }
    ch.has_key = true;
    memcpy(ch.key_hash, m->key_hash.data, ACCOUNT_HASH_SIZE);
    return channel_put(f->txn, &ch);
}

static int user_wanted(struct account_fold *f, const char *name, struct account_user *ret)
{
    if (!account_name_valid(name)) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = user_get(f->txn, name, ret);
    f->verdict = rc == 0 ? VERDICT_OK : VERDICT_NOT_FOUND;
    f->outcome->user = rc == 0 ? name : NULL;
    return rc == WEIR_ENOTFOUND ? 0 : rc;
}

static bool token_valid(const Weir__TokenIssue *m)
{
    if (m->token_hash.len != ACCOUNT_HASH_SIZE || m->n_scopes > ACCOUNT_SCOPES_MAX) {
        return false;
    }
    for (size_t i = 0; i < m->n_scopes; i++) {
        if (m->scopes[i][0] == '\0' || !text_valid_within(m->scopes[i], ACCOUNT_SCOPE_MAX)) {
            return false;
        }
    }
    return true;
}

static int token_put(struct account_fold *f, const Weir__TokenIssue *m)
{
    struct bytes b;
    struct key k = key_of('t', m->token_hash.data, ACCOUNT_HASH_SIZE);
    bytes_init(&b, 1024);
    text_put(&b, m->user);
    bytes_put_u8(&b, (uint8_t)m->n_scopes);
    for (size_t i = 0; i < m->n_scopes; i++) {
        text_put(&b, m->scopes[i]);
    }
    return put_bytes(f->txn, &k, &b);
}

static int fold_token_issue(struct account_fold *f, const Weir__TokenIssue *m)
{
    struct account_user u;
    const uint8_t *value = NULL;
    size_t len = 0;
    if (!token_valid(m)) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = user_wanted(f, m->user, &u);
    if (rc != 0 || f->verdict != VERDICT_OK) {
        return rc;
    }
    struct key k = key_of('t', m->token_hash.data, ACCOUNT_HASH_SIZE);
    rc = fold_read(f->txn, k.data, k.len, &value, &len);
    if (rc != WEIR_ENOTFOUND) {
        f->verdict = VERDICT_EXISTS;
        return rc;
    }
    if (u.n_tokens >= ACCOUNT_TOKENS_MAX) {
        f->verdict = VERDICT_LIMIT;
        return 0;
    }
    u.n_tokens++;
    rc = token_put(f, m);
    return rc == 0 ? user_put(f->txn, &u) : rc;
}

static int fold_token_revoke(struct account_fold *f, const Weir__TokenRevoke *m)
{
    struct account_user u;
    const uint8_t *value = NULL;
    size_t len = 0;
    if (m->token_hash.len != ACCOUNT_HASH_SIZE) {
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = user_wanted(f, m->user, &u);
    if (rc != 0 || f->verdict != VERDICT_OK) {
        return rc;
    }
    struct key k = key_of('t', m->token_hash.data, ACCOUNT_HASH_SIZE);
    rc = fold_read(f->txn, k.data, k.len, &value, &len);
    if (rc == WEIR_ENOTFOUND || (rc == 0 && strcmp((const char *)value, m->user) != 0)) {
        f->verdict = VERDICT_NOT_FOUND;
        return 0;
    }
    if (rc == 0) {
        rc = fold_delete(f->txn, k.data, k.len);
    }
    u.n_tokens -= u.n_tokens > 0;
    return rc == 0 ? user_put(f->txn, &u) : rc;
}

static int fold_body(struct account_fold *f, const Weir__AccountsRecord *m)
{
    switch (m->body_case) {
    case WEIR__ACCOUNTS_RECORD__BODY_USER_CREATE:
        return fold_user_create(f, m->user_create);
    case WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_CREATE:
        return fold_channel_create(f, m->channel_create);
    case WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_UPDATE:
        return fold_channel_update(f, m->channel_update);
    case WEIR__ACCOUNTS_RECORD__BODY_STREAM_KEY_SET:
        return fold_stream_key(f, m->stream_key_set);
    case WEIR__ACCOUNTS_RECORD__BODY_TOKEN_ISSUE:
        return fold_token_issue(f, m->token_issue);
    case WEIR__ACCOUNTS_RECORD__BODY_TOKEN_REVOKE:
        return fold_token_revoke(f, m->token_revoke);
    default:
        f->verdict = VERDICT_MALFORMED;
        return 0;
    }
}

static int accounts_fold(void *state, struct fold_txn *txn, const struct fold_record *record,
                         struct view_event *ret_event, struct error *err)
{
    (void)state;
    struct account_fold f = {.txn = txn, .record = record};
    f.outcome = fold_alloc(txn, sizeof(*f.outcome));
    Weir__AccountsRecord *m =
        weir__accounts_record__unpack(fold_allocator(txn), record->len, record->value);
    if (f.outcome == NULL || (m == NULL && fold_unpack_failed(txn) != 0)) {
        return error_set(err, WEIR_ENOMEM, "accounts record of %zu bytes", record->len);
    }
    if (m == NULL) {
        ret_event->verdict = VERDICT_MALFORMED;
        return 0;
    }
    int rc = fold_body(&f, m);
    ret_event->verdict = f.verdict;
    ret_event->record = m;
    ret_event->outcome = f.outcome;
    return rc;
}

const struct view_ops accounts_view = {
    .topic = VIEW_ACCOUNTS,
    .version = 1,
    .fold = accounts_fold,
};

/* --- Queries --- */

int accounts_user(struct views *views, const char *name, struct account_user *ret_user)
{
    struct fold_txn *txn = NULL;
    if (!account_name_valid(name)) {
        return WEIR_ENOTFOUND;
    }
    int rc =
        views_read_begin(views, VIEW_ACCOUNTS, views_partition(views, VIEW_ACCOUNTS, name), &txn);
    if (rc == 0) {
        rc = user_get(txn, name, ret_user);
        views_read_end(txn);
    }
    return rc;
}

int accounts_channel(struct views *views, const char *name, struct account_channel *ret_channel)
{
    struct fold_txn *txn = NULL;
    if (!account_name_valid(name)) {
        return WEIR_ENOTFOUND;
    }
    int rc =
        views_read_begin(views, VIEW_ACCOUNTS, views_partition(views, VIEW_ACCOUNTS, name), &txn);
    if (rc == 0) {
        rc = channel_get(txn, name, ret_channel);
        views_read_end(txn);
    }
    return rc;
}

static void secret_hash(const char *secret, uint8_t ret_hash[ACCOUNT_HASH_SIZE])
{
    crypto_generichash(ret_hash, ACCOUNT_HASH_SIZE, (const uint8_t *)secret, strlen(secret), NULL,
                       0);
}

/* Whose secret it says it is: `prefix` name `_` random. */
static bool secret_name(const char *secret, const char *prefix, char ret_name[ACCOUNT_NAME_MAX + 1])
{
    size_t len = strnlen(secret, ACCOUNT_SECRET_MAX), skip = strlen(prefix);
    if (len >= ACCOUNT_SECRET_MAX || len < skip + ACCOUNT_NAME_MIN + 1 + RANDOM_CHARS ||
        strncmp(secret, prefix, skip) != 0) {
        return false;
    }
    size_t n = len - skip - 1 - RANDOM_CHARS;
    if (n > ACCOUNT_NAME_MAX || secret[skip + n] != '_') {
        return false;
    }
    memcpy(ret_name, secret + skip, n);
    ret_name[n] = '\0';
    return account_name_valid(ret_name);
}

static int identity_decode(const uint8_t *value, size_t len, const char *user,
                           struct account_identity *id)
{
    struct cursor c;
    char name[ACCOUNT_NAME_MAX + 1];
    cursor_init(&c, value, len);
    text_take(&c, name, sizeof(name));
    uint32_t n = cursor_u8(&c);
    if (!cursor_ok(&c) || n > ACCOUNT_SCOPES_MAX) {
        return WEIR_ECORRUPT;
    }
    id->n_scopes = n;
    for (uint32_t i = 0; i < n; i++) {
        text_take(&c, id->scopes[i], sizeof(id->scopes[i]));
    }
    return !cursor_ok(&c) ? WEIR_ECORRUPT : strcmp(name, user) != 0 ? WEIR_EAUTH : 0;
}

static int token_read(struct fold_txn *txn, const char *token, const char *user,
                      struct account_identity *ret)
{
    uint8_t hash[ACCOUNT_HASH_SIZE];
    const uint8_t *value = NULL;
    size_t len = 0;
    secret_hash(token, hash);
    struct key k = key_of('t', hash, sizeof(hash));
    int rc = fold_read(txn, k.data, k.len, &value, &len);
    if (rc == 0) {
        rc = identity_decode(value, len, user, ret);
    }
    return rc == 0 ? user_get(txn, user, &ret->user) : rc;
}

int accounts_by_token(struct views *views, const char *token, struct account_identity *ret_identity)
{
    char user[ACCOUNT_NAME_MAX + 1];
    struct account_identity id = {0};
    struct fold_txn *txn = NULL;
    if (!secret_name(token, token_prefix, user)) {
        return WEIR_EAUTH;
    }
    int rc =
        views_read_begin(views, VIEW_ACCOUNTS, views_partition(views, VIEW_ACCOUNTS, user), &txn);
    if (rc != 0) {
        return rc;
    }
    rc = token_read(txn, token, user, &id);
    views_read_end(txn);
    if (rc == 0) {
        *ret_identity = id;
    }
    return rc == WEIR_ENOTFOUND ? WEIR_EAUTH : rc;
}

bool account_has_scope(const struct account_identity *identity, const char *scope)
{
    for (uint32_t i = 0; i < identity->n_scopes; i++) {
        if (strcmp(identity->scopes[i], scope) == 0) {
            return true;
        }
    }
    return false;
}

int accounts_by_stream_key(struct views *views, const char *key,
                           struct account_channel *ret_channel)
{
    char name[ACCOUNT_NAME_MAX + 1];
    uint8_t hash[ACCOUNT_HASH_SIZE];
    struct account_channel ch;
    if (!secret_name(key, stream_key_prefix, name)) {
        return WEIR_EAUTH;
    }
    int rc = accounts_channel(views, name, &ch);
    if (rc != 0) {
        return rc == WEIR_ENOTFOUND ? WEIR_EAUTH : rc;
    }
    secret_hash(key, hash);
    if (!ch.has_key || sodium_memcmp(hash, ch.key_hash, sizeof(hash)) != 0) {
        return WEIR_EAUTH;
    }
    *ret_channel = ch;
    return 0;
}

struct account_walk {
    accounts_user_cb user_cb;
    accounts_channel_cb channel_cb;
    void *data;
};

static int walk_one(void *data, const uint8_t *key, size_t key_len, const uint8_t *value,
                    size_t value_len)
{
    const struct account_walk *w = data;
    char name[ACCOUNT_NAME_MAX + 1];
    if (key_len - 1 >= sizeof(name)) {
        return WEIR_ECORRUPT;
    }
    memcpy(name, key + 1, key_len - 1);
    name[key_len - 1] = '\0';
    if (w->user_cb != NULL) {
        struct account_user u;
        int rc = user_decode(name, value, value_len, &u);
        return rc == 0 ? w->user_cb(w->data, &u) : rc;
    }
    struct account_channel ch;
    int rc = channel_decode(name, value, value_len, &ch);
    return rc == 0 ? w->channel_cb(w->data, &ch) : rc;
}

static int walk_all(struct views *views, const char *kind, struct account_walk *w)
{
    uint32_t n = views_partitions(views, VIEW_ACCOUNTS);
    int rc = n == 0 ? WEIR_EUNAVAILABLE : 0;
    for (uint32_t i = 0; i < n && rc == 0; i++) {
        struct fold_txn *txn = NULL;
        rc = views_read_begin(views, VIEW_ACCOUNTS, i, &txn);
        if (rc == 0) {
            rc = fold_scan(txn, kind, 1, false, walk_one, w);
            views_read_end(txn);
        }
    }
    return rc;
}

int accounts_users(struct views *views, accounts_user_cb cb, void *data)
{
    struct account_walk w = {.user_cb = cb, .data = data};
    return walk_all(views, "u", &w);
}

int accounts_channels(struct views *views, accounts_channel_cb cb, void *data)
{
    struct account_walk w = {.channel_cb = cb, .data = data};
    return walk_all(views, "c", &w);
}

/* --- Secrets --- */

static void secret_make(const char *prefix, const char *name, const uint8_t *random,
                        char ret_secret[ACCOUNT_SECRET_MAX], uint8_t ret_hash[ACCOUNT_HASH_SIZE])
{
    size_t p = strlen(prefix), n = strlen(name);
    assert(account_name_valid(name));
    memcpy(ret_secret, prefix, p);
    memcpy(ret_secret + p, name, n);
    ret_secret[p + n] = '_';
    sodium_bin2base64(ret_secret + p + n + 1, RANDOM_CHARS + 1, random, ACCOUNT_RANDOM_SIZE,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    secret_hash(ret_secret, ret_hash);
}

void account_token_make(const char *user, const uint8_t random[ACCOUNT_RANDOM_SIZE],
                        char ret_token[ACCOUNT_SECRET_MAX], uint8_t ret_hash[ACCOUNT_HASH_SIZE])
{
    secret_make(token_prefix, user, random, ret_token, ret_hash);
}

void account_stream_key_make(const char *channel, const uint8_t random[ACCOUNT_RANDOM_SIZE],
                             char ret_key[ACCOUNT_SECRET_MAX], uint8_t ret_hash[ACCOUNT_HASH_SIZE])
{
    secret_make(stream_key_prefix, channel, random, ret_key, ret_hash);
}
