/* Subscriptions by an operator's grant, refunds, and the books. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/api/api.h"
#include "proto/ledger.pb-c.h"
#include "views/accounts.h"
#include "views/ledger.h"

#define SUBS          "/api/admin/subs"
#define REFUND        "/api/admin/subs/refund"
#define ENTRIES       "/api/admin/ledger/entries"
#define ENTRIES_MAX   500 /* in one answer */
#define BALANCES      "/api/admin/ledger/balances"
#define CHECK         "/api/admin/ledger/check"
#define CHANNEL_SHARE 70 /* per cent of a subscription; the rest is the platform's */

/* Cents a month. */
static const int64_t tier_price_minor[LEDGER_TIER_MAX + 1] = {0, 499, 999, 2499};

static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

static json_t *sub_json(const struct ledger_sub *s)
{
    return json_pack("{s:s, s:s, s:i, s:b, s:s, s:i, s:I, s:I}", "channel", s->channel, "user",
                     s->user, "tier", (int)s->tier, "gift", s->gift, "by", s->by, "months_total",
                     (int)s->months_total, "started_ms", (json_int_t)s->started_ms, "expires_ms",
                     (json_int_t)s->expires_ms);
}

static json_t *entry_json(const struct ledger_entry *e, bool duplicate)
{
    json_t *json = sub_json(&e->after);
    if (json != NULL) {
        json_object_set_new(json, "key", json_string(e->key));
        json_object_set_new(json, "kind", json_string(e->refund ? "refund" : "sub"));
        if (e->refund) {
            json_object_set_new(json, "of", json_string(e->of));
        }
        json_object_set_new(json, "months", json_integer(e->months));
        json_object_set_new(json, "partition", json_integer(e->partition));
        json_object_set_new(json, "offset", json_integer(e->offset));
        json_object_set_new(json, "duplicate", json_boolean(duplicate));
    }
    return json;
}

/* The same key with another grant is a mistake of the caller, not a repetition. */
static void reply_entry(const struct api_request *req, const struct ledger_entry *e, bool duplicate)
{
    bool same = e->refund || (strcmp(e->after.user, req->user) == 0 &&
                              strcmp(e->after.channel, req->channel) == 0 && e->tier == req->tier &&
                              e->months == req->months);
    if (strcmp(e->of, req->of) != 0) {
        api_error(req->ex, 409, "key_reused", "key %s has booked %s before", req->key,
                  e->refund ? "another refund" : "a subscription");
    } else if (!same) {
        api_error(req->ex, 409, "key_reused",
                  "key %s has booked tier %u, %u months of %s for %s before", req->key, e->tier,
                  e->months, e->after.channel, e->after.user);
    } else {
        api_reply(req->ex, duplicate ? 200 : 201, entry_json(e, duplicate));
    }
}

static void granted(struct api_request *req, enum verdict verdict)
{
    struct ledger_entry e;
    if (verdict != VERDICT_OK && verdict != VERDICT_DUPLICATE) {
        api_void(req->ex, verdict, "grant");
        return;
    }
    int rc = ledger_entry_by_key(req->api->node->views, req->channel, req->key, &e);
    if (rc != 0) {
        api_failed(req->ex, rc, "grant");
    } else {
        reply_entry(req, &e, verdict == VERDICT_DUPLICATE);
    }
}

static void grant_submit(struct api_request *req, const char *by, bool gift)
{
    char channel_account[LEDGER_ACCOUNT_MAX + 1];
    Weir__SubscriptionGrant grant = WEIR__SUBSCRIPTION_GRANT__INIT;
    Weir__Posting postings[3] = {WEIR__POSTING__INIT, WEIR__POSTING__INIT, WEIR__POSTING__INIT};
    Weir__Posting *list[3] = {&postings[0], &postings[1], &postings[2]};
    Weir__LedgerRecord r = WEIR__LEDGER_RECORD__INIT;
    int64_t price = tier_price_minor[req->tier] * (int64_t)req->months;
    int64_t share = price * CHANNEL_SHARE / 100;
    (void)snprintf(channel_account, sizeof(channel_account), "channel:%s", req->channel);
    postings[0].account = text("provider:manual");
    postings[0].amount_minor = price;
    postings[1].account = channel_account;
    postings[1].amount_minor = -share;
    postings[2].account = text("platform");
    postings[2].amount_minor = share - price;
    grant.user = req->user;
    grant.tier = req->tier;
    grant.months = req->months;
    grant.by = text(by);
    grant.gift = gift;
    r.channel = req->channel;
    r.idempotency_key = req->key;
    r.body_case = WEIR__LEDGER_RECORD__BODY_GRANT;
    r.grant = &grant;
    r.postings = list;
    r.n_postings = 3;
    api_submit(req, VIEW_LEDGER, req->channel, &r.base, granted);
}

struct grant_body {
    const char *user, *channel, *key, *by;
    uint32_t tier, months;
    bool gift;
};

/* False: answered. */
static bool grant_parse(struct http_exchange *ex, json_t *body, struct grant_body *g)
{
    if (!api_string(ex, body, "user", NULL, &g->user) ||
        !api_string(ex, body, "channel", NULL, &g->channel) ||
        !api_string(ex, body, "key", NULL, &g->key) || !api_string(ex, body, "by", "", &g->by) ||
        !api_uint(ex, body, "tier", 1, &g->tier) || !api_uint(ex, body, "months", 1, &g->months) ||
        !api_bool(ex, body, "gift", &g->gift)) {
        return false;
    }
    if (g->tier < 1 || g->tier > LEDGER_TIER_MAX) {
        api_error(ex, 400, "malformed", "tier: 1 to %d was expected", LEDGER_TIER_MAX);
    } else if (g->months < 1 || g->months > LEDGER_MONTHS_MAX) {
        api_error(ex, 400, "malformed", "months: 1 to %d was expected", LEDGER_MONTHS_MAX);
    } else if (g->key[0] == '\0' || strlen(g->key) > LEDGER_KEY_MAX) {
        api_error(ex, 400, "malformed", "key: 1 to %d bytes were expected", LEDGER_KEY_MAX);
    } else {
        return true;
    }
    return false;
}

/* That they exist is asked here and not in the fold: they live in other partitions. False:
 * answered. */
static bool parties_exist(struct api *api, struct http_exchange *ex, const struct grant_body *g)
{
    struct account_user user;
    struct account_channel channel;
    int rc = accounts_user(api->node->views, g->user, &user);
    if (rc != 0) {
        api_failed(ex, rc, "user");
        return false;
    }
    rc = g->by[0] == '\0' ? 0 : accounts_user(api->node->views, g->by, &user);
    if (rc != 0) {
        api_failed(ex, rc, "by");
        return false;
    }
    rc = accounts_channel(api->node->views, g->channel, &channel);
    if (rc != 0) {
        api_failed(ex, rc, "channel");
    }
    return rc == 0;
}

static void post_subs(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct grant_body g = {0};
    json_t *body = node_authorised(api->node, ex) ? api_body(ex) : NULL;
    if (body == NULL) {
        return;
    }
    struct api_request *req = NULL;
    if (grant_parse(ex, body, &g) && parties_exist(api, ex, &g) &&
        (req = api_request_new(api, ex)) != NULL) {
        (void)snprintf(req->user, sizeof(req->user), "%s", g.user);
        (void)snprintf(req->channel, sizeof(req->channel), "%s", g.channel);
        (void)snprintf(req->key, sizeof(req->key), "%s", g.key);
        req->tier = g.tier;
        req->months = g.months;
        grant_submit(req, g.by, g.gift);
    }
    json_decref(body);
}

/* --- Refunds --- */

/* The grant's postings, turned round. */
struct refund_postings {
    Weir__Posting at[LEDGER_POSTINGS_MAX], *list[LEDGER_POSTINGS_MAX];
    char accounts[LEDGER_POSTINGS_MAX][LEDGER_ACCOUNT_MAX + 1];
    size_t n;
};

static int turn_posting(void *data, const char *account, int64_t amount_minor)
{
    struct refund_postings *p = data;
    if (p->n == LEDGER_POSTINGS_MAX) {
        return WEIR_ECORRUPT;
    }
    weir__posting__init(&p->at[p->n]);
    (void)snprintf(p->accounts[p->n], sizeof(p->accounts[p->n]), "%s", account);
    p->at[p->n].account = p->accounts[p->n];
    p->at[p->n].amount_minor = -amount_minor;
    p->list[p->n] = &p->at[p->n];
    p->n++;
    return 0;
}

static void refund_submit(struct api_request *req, const struct refund_postings *p, const char *by,
                          const char *reason)
{
    Weir__SubscriptionRefund refund = WEIR__SUBSCRIPTION_REFUND__INIT;
    Weir__LedgerRecord r = WEIR__LEDGER_RECORD__INIT;
    Weir__Posting *list[LEDGER_POSTINGS_MAX];
    memcpy(list, p->list, sizeof(list));
    refund.of = req->of;
    refund.by = text(by);
    refund.reason = text(reason);
    r.channel = req->channel;
    r.idempotency_key = req->key;
    r.body_case = WEIR__LEDGER_RECORD__BODY_REFUND;
    r.refund = &refund;
    r.postings = list;
    r.n_postings = p->n;
    api_submit(req, VIEW_LEDGER, req->channel, &r.base, granted);
}

/* The grant is looked up in this node's view; whether it may be refunded is the fold's to say. */
static int refund_find(struct api *api, const char *channel, const char *of,
                       struct refund_postings *p)
{
    struct ledger_entry grant;
    int rc = ledger_entry_by_key(api->node->views, channel, of, &grant);
    if (rc == 0 && grant.refund) {
        rc = WEIR_ENOTFOUND;
    }
    return rc == 0 ? ledger_entry_postings(api->node->views, grant.partition, grant.offset,
                                           turn_posting, p)
                   : rc;
}

static void post_refund(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct refund_postings p = {0};
    struct api_request *req = NULL;
    const char *channel, *key, *of, *by, *reason;
    json_t *body = node_authorised(api->node, ex) ? api_body(ex) : NULL;
    if (body == NULL) {
        return;
    }
    if (api_string(ex, body, "channel", NULL, &channel) &&
        api_string(ex, body, "key", NULL, &key) && api_string(ex, body, "of", NULL, &of) &&
        api_string(ex, body, "by", "", &by) && api_string(ex, body, "reason", "", &reason)) {
        int rc = refund_find(api, channel, of, &p);
        if (key[0] == '\0' || strlen(key) > LEDGER_KEY_MAX || strlen(of) > LEDGER_KEY_MAX) {
            api_error(ex, 400, "malformed", "key, of: 1 to %d bytes were expected", LEDGER_KEY_MAX);
        } else if (rc != 0) {
            api_failed(ex, rc, "grant to refund");
        } else if ((req = api_request_new(api, ex)) != NULL) {
            (void)snprintf(req->channel, sizeof(req->channel), "%s", channel);
            (void)snprintf(req->key, sizeof(req->key), "%s", key);
            (void)snprintf(req->of, sizeof(req->of), "%s", of);
            refund_submit(req, &p, by, reason);
        }
    }
    json_decref(body);
}

/* --- Reading --- */

static int list_sub(void *data, const struct ledger_sub *sub)
{
    return json_array_append_new(data, sub_json(sub)) == 0 ? 0 : WEIR_ENOMEM;
}

struct all_channels {
    struct views *views;
    json_t *list;
};

static int list_channel_subs(void *data, const struct account_channel *channel)
{
    struct all_channels *all = data;
    return ledger_subs_by_channel(all->views, channel->name, list_sub, all->list);
}

static void get_subs(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    if (!node_authorised(api->node, ex)) {
        return;
    }
    const char *channel = http_query(ex, "channel"), *user = http_query(ex, "user");
    struct all_channels all = {api->node->views, json_array()};
    int rc;
    if (channel != NULL) {
        rc = ledger_subs_by_channel(api->node->views, channel, list_sub, all.list);
    } else if (user != NULL) {
        rc = ledger_subs_by_user(api->node->views, user, list_sub, all.list);
    } else {
        rc = accounts_channels(api->node->views, list_channel_subs, &all);
    }
    if (rc != 0) {
        json_decref(all.list);
        api_failed(ex, rc, "subs");
        return;
    }
    api_reply(ex, 200, json_pack("{s:o}", "subs", all.list));
}

static int add_balance(void *data, uint32_t partition, const char *account, int64_t minor)
{
    json_int_t sum = json_integer_value(json_object_get(data, account)) + minor;
    (void)partition;
    return json_object_set_new(data, account, json_integer(sum)) == 0 ? 0 : WEIR_ENOMEM;
}

static void get_balances(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    if (!node_authorised(api->node, ex)) {
        return;
    }
    json_t *balances = json_object();
    int rc = ledger_balances(api->node->views, add_balance, balances);
    if (rc != 0) {
        json_decref(balances);
        api_failed(ex, rc, "balances");
        return;
    }
    api_reply(ex, 200, json_pack("{s:o}", "balances_minor", balances));
}

/* Every balance of this node's view, added up again from the entries. */
static void get_check(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    struct error err = {0};
    if (!node_authorised(api->node, ex)) {
        return;
    }
    uint32_t n = views_partitions(api->node->views, VIEW_LEDGER);
    json_int_t entries = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t counted = 0;
        int rc = ledger_recompute(api->node->views, i, &counted, &err);
        if (rc != 0) {
            api_error(ex, 500, "unbalanced", "%s", err.text);
            return;
        }
        entries += (json_int_t)counted;
    }
    api_reply(ex, 200, json_pack("{s:b, s:I}", "balanced", 1, "entries", entries));
}

static int list_posting(void *data, const char *account, int64_t amount_minor)
{
    json_t *posting =
        json_pack("{s:s, s:I}", "account", account, "amount_minor", (json_int_t)amount_minor);
    return json_array_append_new(data, posting) == 0 ? 0 : WEIR_ENOMEM;
}

static int add_entry(struct api *api, json_t *list, const struct ledger_entry *e)
{
    json_t *entry = entry_json(e, false), *postings = json_array();
    int rc =
        ledger_entry_postings(api->node->views, e->partition, e->offset, list_posting, postings);
    json_object_set_new(entry, "time_ms", json_integer(e->append_ms));
    json_object_set_new(entry, "postings", postings);
    (void)json_object_del(entry, "duplicate");
    return json_array_append_new(list, entry) == 0 ? rc : WEIR_ENOMEM;
}

/* False: answered. */
static bool query_number(struct http_exchange *ex, const char *name, int64_t otherwise, int64_t max,
                         int64_t *ret)
{
    const char *value = http_query(ex, name);
    char *end = NULL;
    errno = 0;
    *ret = value == NULL ? otherwise : strtoll(value, &end, 10);
    if (value == NULL || (end != value && *end == '\0' && errno == 0 && *ret >= 0 && *ret <= max)) {
        return true;
    }
    api_error(ex, 400, "malformed", "%s: a whole number up to %lld was expected", name,
              (long long)max);
    return false;
}

/* A partition's entries in their order, with what they posted: whoever wants to can add it all up.
 */
static void get_entries(void *data, struct http_exchange *ex)
{
    struct api *api = data;
    int64_t partition, from, limit;
    struct ledger_entry e;
    if (!node_authorised(api->node, ex) ||
        !query_number(ex, "partition", 0, UINT32_MAX, &partition) ||
        !query_number(ex, "from", 0, INT64_MAX, &from) ||
        !query_number(ex, "limit", ENTRIES_MAX, ENTRIES_MAX, &limit)) {
        return;
    }
    json_t *list = json_array();
    int rc = 0;
    for (int64_t i = 0; rc == 0 && i < limit; i++) {
        rc = ledger_entry_from(api->node->views, (uint32_t)partition, from, &e);
        if (rc == 0) {
            rc = add_entry(api, list, &e);
            from = e.offset + 1;
        }
    }
    if (rc != 0 && rc != WEIR_ENOTFOUND) {
        json_decref(list);
        api_failed(ex, rc, "entries");
        return;
    }
    json_t *answer = json_pack("{s:o, s:I}", "entries", list, "partitions",
                               (json_int_t)views_partitions(api->node->views, VIEW_LEDGER));
    json_object_set_new(answer, "next", rc == 0 ? json_integer(from) : json_null());
    api_reply(ex, 200, answer);
}

int api_ledger_routes(struct api *api, struct error *err)
{
    static const struct api_route routes[] = {
        {"GET", SUBS, false, get_subs},
        {"POST", SUBS, false, post_subs},
        {"POST", REFUND, false, post_refund},
        {"GET", ENTRIES, false, get_entries},
        {"GET", BALANCES, false, get_balances},
        {"GET", CHECK, false, get_check},
        {0},
    };
    return api_routes(api, routes, err);
}
