/* Users, tokens, channels, stream keys. */
#include <stdio.h>
#include <string.h>

#include "nodes/api/api.h"
#include "proto/accounts.pb-c.h"
#include "views/accounts.h"
#include "views/ledger.h"

#define USERS    "/api/admin/users"
#define CHANNELS "/api/admin/channels"
#define PUBLIC   "/api/channels"

static const char *const default_scopes[] = {"chat"};

/* protobuf-c's strings are not const; packing only reads them. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static json_t *user_json(const struct account_user *u)
{
    return json_pack("{s:s, s:s, s:I, s:i}", "name", u->name, "display_name", u->display_name,
                     "created_ms", (json_int_t)u->created_ms, "tokens", (int)u->n_tokens);
}

static json_t *channel_json(const struct account_channel *ch)
{
    json_t *tags = json_array();
    for (uint32_t i = 0; i < ch->n_tags; i++) {
        json_array_append_new(tags, json_string(ch->tags[i]));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:I}", "name", ch->name, "owner", ch->owner,
                     "title", ch->title, "category", ch->category, "language", ch->language, "tags",
                     tags, "created_ms", (json_int_t)ch->created_ms);
}

/* --- Users --- */

static void user_created(struct api_request *req, enum verdict verdict)
{
    struct account_user u;
    int rc = accounts_user(req->api->node->views, req->user, &u);
    json_t *asked = api_take_answer(req);
    /* "Exists", after it did not when the request came: our own record, sent twice by the client of
     * the log, or one of the same moment; with the same name it is what was asked for. */
    bool same = rc == 0 && strcmp(json_string_value(asked), u.display_name) == 0;
    json_decref(asked);
    if (rc == 0 && (verdict == VERDICT_OK || (verdict == VERDICT_EXISTS && same))) {
        api_reply(req->ex, 201, user_json(&u));
    } else if (verdict != VERDICT_OK) {
        api_void(req->ex, verdict, "user");
    } else {
        api_failed(req->ex, rc, "user");
    }
}

static void user_submit(struct api *api, struct http_exchange *ex, const char *name,
                        const char *display_name)
{
    Weir__UserCreate m = WEIR__USER_CREATE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    struct api_request *req = api_request_new(api, ex);
    if (req == NULL) {
        return;
    }
    m.name = text(name);
    m.display_name = text(display_name);
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_USER_CREATE;
    r.user_create = &m;
    req->answer = json_string(display_name);
    (void)snprintf(req->user, sizeof(req->user), "%s", name);
    api_submit(req, VIEW_ACCOUNTS, name, &r.base, user_created);
}

static void post_users(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct account_user u;
    const char *name = NULL, *display_name = NULL;
    json_t *body = node_authorised(api->node, ex) ? api_body(ex) : NULL;
    if (body == NULL) {
        return;
    }
    if (api_string(ex, body, "name", NULL, &name) &&
        api_string(ex, body, "display_name", name, &display_name)) {
        int rc = accounts_user(api->node->views, name, &u);
        if (!account_name_valid(name)) {
            api_error(ex, 400, "malformed", "name: 2 to 25 of a-z, 0-9 and _ were expected");
        } else if (rc == 0) {
            api_error(ex, 409, "exists", "there is a user %s already", name);
        } else if (rc != WEIR_ENOTFOUND) {
            api_failed(ex, rc, "user");
        } else {
            user_submit(api, ex, name, display_name);
        }
    }
    json_decref(body);
}

static int list_user(void *data, const struct account_user *u)
{
    return json_array_append_new(data, user_json(u)) == 0 ? 0 : WEIR_ENOMEM;
}

static void reply_list(struct http_exchange *ex, const char *name, int rc, json_t *list)
{
    if (rc != 0) {
        json_decref(list);
        api_failed(ex, rc, name);
    } else {
        api_reply(ex, 200, json_pack("{s:o}", name, list));
    }
}

static void get_users(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    if (node_authorised(api->node, ex)) {
        json_t *list = json_array();
        reply_list(ex, "users", accounts_users(api->node->views, list_user, list), list);
    }
}

/* --- Tokens --- */

static void token_issued(struct api_request *req, enum verdict verdict)
{
    /* A token is random: one that exists is this one, sent twice. */
    if (verdict == VERDICT_OK || verdict == VERDICT_EXISTS) {
        api_reply(req->ex, 201, api_take_answer(req));
    } else {
        api_void(req->ex, verdict, "token");
    }
}

static void token_submit(struct api *api, struct http_exchange *ex, const char *user,
                         const char **scopes, size_t n_scopes)
{
    char token[ACCOUNT_SECRET_MAX];
    uint8_t random[ACCOUNT_RANDOM_SIZE], hash[ACCOUNT_HASH_SIZE];
    char *list[ACCOUNT_SCOPES_MAX];
    Weir__TokenIssue m = WEIR__TOKEN_ISSUE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    struct api_request *req = api_request_new(api, ex);
    if (req == NULL) {
        return;
    }
    env_random(api->node->env, random, sizeof(random));
    account_token_make(user, random, token, hash);
    for (size_t i = 0; i < n_scopes; i++) {
        list[i] = text(scopes[i]);
    }
    m.user = text(user);
    m.token_hash.data = hash;
    m.token_hash.len = sizeof(hash);
    m.scopes = list;
    m.n_scopes = n_scopes;
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_TOKEN_ISSUE;
    r.token_issue = &m;
    req->answer = json_pack("{s:s, s:s}", "user", user, "token", token);
    api_submit(req, VIEW_ACCOUNTS, user, &r.base, token_issued);
}

/* False: answered. */
static bool scopes_of(struct http_exchange *ex, json_t *body,
                      const char *scopes[ACCOUNT_SCOPES_MAX], size_t *ret_n)
{
    json_t *list = json_object_get(body, "scopes");
    if (list == NULL || json_is_null(list)) {
        *ret_n = sizeof(default_scopes) / sizeof(default_scopes[0]);
        memcpy(scopes, default_scopes, sizeof(default_scopes));
        return true;
    }
    *ret_n = json_array_size(list);
    bool good = json_is_array(list) && *ret_n <= ACCOUNT_SCOPES_MAX;
    for (size_t i = 0; good && i < *ret_n; i++) {
        scopes[i] = json_string_value(json_array_get(list, i));
        good = scopes[i] != NULL;
    }
    if (!good) {
        api_error(ex, 400, "malformed", "scopes: a list of at most %d strings was expected",
                  ACCOUNT_SCOPES_MAX);
    }
    return good;
}

static void post_user(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct account_user u;
    const char *rest = NULL, *scopes[ACCOUNT_SCOPES_MAX];
    char name[26];
    size_t n = 0;
    if (!node_authorised(api->node, ex) || !api_path(ex, USERS "/", name, &rest)) {
        return;
    }
    int rc = accounts_user(api->node->views, name, &u);
    if (rc != 0 || strcmp(rest, "tokens") != 0) {
        api_failed(ex, rc != 0 ? rc : WEIR_ENOTFOUND, rc != 0 ? "user" : rest);
        return;
    }
    json_t *body = api_body(ex);
    if (body != NULL && scopes_of(ex, body, scopes, &n)) {
        token_submit(api, ex, name, scopes, n);
    }
    json_decref(body);
}

/* --- Channels --- */

static void channel_changed(struct api_request *req, enum verdict verdict)
{
    struct account_channel ch;
    int rc = accounts_channel(req->api->node->views, req->channel, &ch);
    bool same = rc == 0 && req->user[0] != '\0' && strcmp(ch.owner, req->user) == 0;
    if (rc == 0 && (verdict == VERDICT_OK || (verdict == VERDICT_EXISTS && same))) {
        api_reply(req->ex, req->user[0] != '\0' ? 201 : 200, channel_json(&ch));
    } else if (verdict != VERDICT_OK) {
        api_void(req->ex, verdict, "channel");
    } else {
        api_failed(req->ex, rc, "channel");
    }
}

static void channel_submit(struct api *api, struct http_exchange *ex, const char *name,
                           const char *owner, const char *title)
{
    Weir__ChannelCreate m = WEIR__CHANNEL_CREATE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    struct api_request *req = api_request_new(api, ex);
    if (req == NULL) {
        return;
    }
    m.name = text(name);
    m.owner = text(owner);
    m.title = text(title);
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_CREATE;
    r.channel_create = &m;
    (void)snprintf(req->channel, sizeof(req->channel), "%s", name);
    (void)snprintf(req->user, sizeof(req->user), "%s", owner);
    api_submit(req, VIEW_ACCOUNTS, name, &r.base, channel_changed);
}

static void post_channels(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct account_channel ch;
    struct account_user u;
    const char *name = NULL, *owner = NULL, *title = NULL;
    json_t *body = node_authorised(api->node, ex) ? api_body(ex) : NULL;
    if (body == NULL) {
        return;
    }
    if (api_string(ex, body, "name", NULL, &name) && api_string(ex, body, "owner", NULL, &owner) &&
        api_string(ex, body, "title", "", &title)) {
        int rc = accounts_channel(api->node->views, name, &ch);
        int owner_rc = accounts_user(api->node->views, owner, &u);
        if (!account_name_valid(name)) {
            api_error(ex, 400, "malformed", "name: 2 to 25 of a-z, 0-9 and _ were expected");
        } else if (rc == 0) {
            api_error(ex, 409, "exists", "there is a channel %s already", name);
        } else if (rc != WEIR_ENOTFOUND) {
            api_failed(ex, rc, "channel");
        } else if (owner_rc != 0) {
            api_failed(ex, owner_rc, "owner");
        } else {
            channel_submit(api, ex, name, owner, title);
        }
    }
    json_decref(body);
}

static int list_channel(void *data, const struct account_channel *ch)
{
    return json_array_append_new(data, channel_json(ch)) == 0 ? 0 : WEIR_ENOMEM;
}

static void get_channels(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    json_t *list = json_array();
    reply_list(ex, "channels", accounts_channels(api->node->views, list_channel, list), list);
}

/* --- One channel: its key, its description --- */

static void key_set(struct api_request *req, enum verdict verdict)
{
    if (verdict == VERDICT_OK) {
        api_reply(req->ex, 201, api_take_answer(req));
    } else {
        api_void(req->ex, verdict, "stream key");
    }
}

static void key_submit(struct api *api, struct http_exchange *ex, const char *channel)
{
    char key[ACCOUNT_SECRET_MAX];
    uint8_t random[ACCOUNT_RANDOM_SIZE], hash[ACCOUNT_HASH_SIZE];
    Weir__StreamKeySet m = WEIR__STREAM_KEY_SET__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    struct api_request *req = api_request_new(api, ex);
    if (req == NULL) {
        return;
    }
    env_random(api->node->env, random, sizeof(random));
    account_stream_key_make(channel, random, key, hash);
    m.channel = text(channel);
    m.key_hash.data = hash;
    m.key_hash.len = sizeof(hash);
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_STREAM_KEY_SET;
    r.stream_key_set = &m;
    req->answer = json_pack("{s:s, s:s}", "channel", channel, "stream_key", key);
    api_submit(req, VIEW_ACCOUNTS, channel, &r.base, key_set);
}

/* False: answered. */
static bool tags_of(struct http_exchange *ex, json_t *body, const struct account_channel *ch,
                    char *tags[ACCOUNT_TAGS_MAX], size_t *ret_n)
{
    json_t *list = json_object_get(body, "tags");
    bool given = list != NULL && !json_is_null(list);
    *ret_n = given ? json_array_size(list) : ch->n_tags;
    bool good = *ret_n <= ACCOUNT_TAGS_MAX && (!given || json_is_array(list));
    for (size_t i = 0; good && i < *ret_n; i++) {
        tags[i] = text(given ? json_string_value(json_array_get(list, i)) : ch->tags[i]);
        good = tags[i] != NULL;
    }
    if (!good) {
        api_error(ex, 400, "malformed", "tags: a list of at most %d strings was expected",
                  ACCOUNT_TAGS_MAX);
    }
    return good;
}

/* What the body does not name stays as it is. */
static void update_submit(struct api *api, struct http_exchange *ex,
                          const struct account_channel *ch, json_t *body)
{
    const char *title = NULL, *category = NULL, *language = NULL;
    char *tags[ACCOUNT_TAGS_MAX];
    Weir__ChannelUpdate m = WEIR__CHANNEL_UPDATE__INIT;
    Weir__AccountsRecord r = WEIR__ACCOUNTS_RECORD__INIT;
    if (!api_string(ex, body, "title", ch->title, &title) ||
        !api_string(ex, body, "category", ch->category, &category) ||
        !api_string(ex, body, "language", ch->language, &language) ||
        !tags_of(ex, body, ch, tags, &m.n_tags)) {
        return;
    }
    struct api_request *req = api_request_new(api, ex);
    if (req == NULL) {
        return;
    }
    m.name = text(ch->name);
    m.title = text(title);
    m.category = text(category);
    m.language = text(language);
    m.tags = tags;
    r.body_case = WEIR__ACCOUNTS_RECORD__BODY_CHANNEL_UPDATE;
    r.channel_update = &m;
    (void)snprintf(req->channel, sizeof(req->channel), "%s", ch->name);
    api_submit(req, VIEW_ACCOUNTS, ch->name, &r.base, channel_changed);
}

static void post_channel(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct account_channel ch;
    const char *rest = NULL;
    char name[26];
    if (!node_authorised(api->node, ex) || !api_path(ex, CHANNELS "/", name, &rest)) {
        return;
    }
    int rc = accounts_channel(api->node->views, name, &ch);
    json_t *body = rc == 0 ? api_body(ex) : NULL;
    if (rc != 0) {
        api_failed(ex, rc, "channel");
    } else if (body != NULL && strcmp(rest, "key") == 0) {
        key_submit(api, ex, name);
    } else if (body != NULL && rest[0] == '\0') {
        update_submit(api, ex, &ch, body);
    } else if (body != NULL) {
        api_failed(ex, WEIR_ENOTFOUND, "channel");
    }
    json_decref(body);
}

struct sub_count {
    int64_t now_ms;
    json_int_t n;
};

static int count_sub(void *data, const struct ledger_sub *sub)
{
    struct sub_count *c = data;
    c->n += sub->expires_ms > c->now_ms;
    return 0;
}

/* What a page needs of a channel; open to anyone. */
static void get_channel(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct account_channel ch;
    struct account_user owner;
    const char *rest = NULL;
    char name[26];
    struct sub_count count = {.now_ms = env_wall_ms(api->node->env)};
    if (!api_path(ex, PUBLIC "/", name, &rest)) {
        return;
    }
    int rc = rest[0] == '\0' ? accounts_channel(api->node->views, name, &ch) : WEIR_ENOTFOUND;
    if (rc == 0) {
        rc = ledger_subs_by_channel(api->node->views, name, count_sub, &count);
    }
    if (rc != 0) {
        api_failed(ex, rc, "channel");
        return;
    }
    rc = accounts_user(api->node->views, ch.owner, &owner);
    json_t *json = channel_json(&ch);
    json_object_set_new(json, "owner_display_name",
                        json_string(rc == 0 ? owner.display_name : ch.owner));
    json_object_set_new(json, "subscribers", json_integer(count.n));
    api_reply(ex, 200, json);
}

int api_accounts_routes(struct api *api, struct error *err)
{
    static const struct api_route routes[] = {
        {"GET", USERS, false, get_users},           {"POST", USERS, false, post_users},
        {"POST", USERS "/", true, post_user},       {"POST", CHANNELS, false, post_channels},
        {"POST", CHANNELS "/", true, post_channel}, {"GET", PUBLIC, false, get_channels},
        {"GET", PUBLIC "/", true, get_channel},     {0},
    };
    return api_routes(api, routes, err);
}
