/* The ledger: subscriptions and balances, as the topic `ledger` tells them. Double entry: an entry
 * counts when its postings sum to zero, its amounts and fields are in range, and its idempotency
 * key has not counted before in the partition (VERDICT_DUPLICATE; the answer is the first entry's).
 * A refund takes one grant back, once: VERDICT_NOT_FOUND when there is no such grant,
 * VERDICT_EXISTS when it was refunded before, VERDICT_UNBALANCED when its postings are not the
 * grant's with the other sign. Every balance can be recomputed from the entries, which are kept for
 * ever. Answers are copies. Loop thread of the views.
 *
 * Queries: 0, WEIR_ENOTFOUND where said, WEIR_EUNAVAILABLE (topic not known yet), or an error of
 * the store. */
#ifndef VIEWS_LEDGER_H
#define VIEWS_LEDGER_H

#include "views/views.h"

#define LEDGER_KEY_MAX      128 /* bytes of an idempotency key */
#define LEDGER_ACCOUNT_MAX  64  /* bytes; printable ASCII without blanks */
#define LEDGER_POSTINGS_MIN 2
#define LEDGER_POSTINGS_MAX 16
#define LEDGER_AMOUNT_MAX   1000000000000 /* minor units, either sign, of one posting */
#define LEDGER_MONTHS_MAX   12
#define LEDGER_REASON_MAX   200 /* bytes */
#define LEDGER_TIER_MAX     3
#define LEDGER_MONTH_MS     (30LL * 86400 * 1000)

/* A user's subscription to a channel, as it stands after the newest entry. */
struct ledger_sub {
    char channel[26], user[26];
    uint32_t tier;
    bool gift;
    char by[26];           /* who paid; the user when nobody else did */
    uint32_t months_total; /* bought in all */
    int64_t started_ms;    /* of the present run without a gap */
    int64_t expires_ms;
    int64_t last_offset; /* newest entry */
};

/* A counted entry. */
struct ledger_entry {
    uint32_t partition;
    int64_t offset, append_ms;
    char key[LEDGER_KEY_MAX + 1];
    uint32_t tier, months;       /* of the grant */
    bool refund;                 /* takes the grant `of` back */
    char of[LEDGER_KEY_MAX + 1]; /* "": a grant */
    struct ledger_sub after;     /* the subscription right after it */
};

/* What the fold adds for listeners of VIEW_LEDGER. */
struct ledger_outcome {
    struct ledger_entry entry; /* VERDICT_OK: this one; VERDICT_DUPLICATE: the one that counted */
};

int ledger_sub_of(struct views *views, const char *channel, const char *user,
                  struct ledger_sub *ret_sub);
/* Non-zero ends the walk and is returned. By user (or channel) name within a partition; ended
 * subscriptions are included: see expires_ms. */
typedef int (*ledger_sub_cb)(void *data, const struct ledger_sub *sub);
int ledger_subs_by_channel(struct views *views, const char *channel, ledger_sub_cb cb, void *data);
int ledger_subs_by_user(struct views *views, const char *user, ledger_sub_cb cb, void *data);
/* The entry that counted under this key; keys are looked up in the channel's partition. */
int ledger_entry_by_key(struct views *views, const char *channel, const char *key,
                        struct ledger_entry *ret_entry);
/* The first counted entry of the partition at or after `from`; WEIR_ENOTFOUND: none yet. */
int ledger_entry_from(struct views *views, uint32_t partition, int64_t from,
                      struct ledger_entry *ret_entry);
/* Its postings, as they were booked. Non-zero ends the walk and is returned. */
typedef int (*ledger_posting_cb)(void *data, const char *account, int64_t amount_minor);
int ledger_entry_postings(struct views *views, uint32_t partition, int64_t offset,
                          ledger_posting_cb cb, void *data);
/* The same account may have a balance in several partitions: add them up. Positive is debit. */
typedef int (*ledger_balance_cb)(void *data, uint32_t partition, const char *account,
                                 int64_t balance_minor);
int ledger_balances(struct views *views, ledger_balance_cb cb, void *data);
/* Adds up all entries of the partition anew: WEIR_ECORRUPT names the first account whose stored
 * balance differs, or a sum that is not zero. */
int ledger_recompute(struct views *views, uint32_t partition, uint64_t *ret_entries,
                     struct error *err);

#endif
