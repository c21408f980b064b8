/* weir sub grant|refund|list */
#include <string.h>

#include "clients/cli/admin.h"

static void print_grant(const json_t *s)
{
    char day[16];
    admin_day(admin_number(s, "expires_ms"), day);
    printf("%s: %s to %s, tier %d, until %s (ledger-%d offset %lld)\n",
           json_is_true(json_object_get(s, "duplicate")) ? "booked before with this key" : "booked",
           admin_text(s, "user"), admin_text(s, "channel"), (int)admin_number(s, "tier"), day,
           (int)admin_number(s, "partition"), (long long)admin_number(s, "offset"));
}

static int sub_grant(int argc, char **argv)
{
    struct admin_args a = {.options = ADMIN_TIER | ADMIN_KEY | ADMIN_MONTHS | ADMIN_BY,
                           .required = ADMIN_TIER | ADMIN_KEY,
                           .n_words_wanted = 2};
    json_t *answer = NULL;
    enum cli_exit rv = admin_parse(&a, "USER CHANNEL",
                                   "Book a subscription. The same key books once, however often "
                                   "the command is given.",
                                   argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    json_t *body = json_pack("{s:s, s:s, s:s, s:i, s:i, s:s*, s:b}", "user", a.words[0], "channel",
                             a.words[1], "key", a.key, "tier", (int)a.tier, "months",
                             a.months == 0 ? 1 : (int)a.months, "by", a.by, "gift", a.by != NULL);
    rv = admin_ask(&a, "POST", "/api/admin/subs", body, true, &answer);
    if (answer != NULL) {
        print_grant(answer);
        json_decref(answer);
    }
    return rv;
}

static int sub_refund(int argc, char **argv)
{
    struct admin_args a = {
        .options = ADMIN_KEY | ADMIN_BY, .required = ADMIN_KEY, .n_words_wanted = 2};
    json_t *answer = NULL;
    enum cli_exit rv = admin_parse(&a, "CHANNEL GRANT-KEY",
                                   "Take back the subscription that was booked under GRANT-KEY: "
                                   "its postings, and what is left of its months. The same --key "
                                   "books once, however often the command is given.",
                                   argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    json_t *body = json_pack("{s:s, s:s, s:s, s:s*}", "channel", a.words[0], "of", a.words[1],
                             "key", a.key, "by", a.by);
    rv = admin_ask(&a, "POST", "/api/admin/subs/refund", body, true, &answer);
    if (answer != NULL) {
        printf("refund of %s: ", a.words[1]);
        print_grant(answer);
        json_decref(answer);
    }
    return rv;
}

static int sub_list(int argc, char **argv)
{
    struct admin_args a = {.options = ADMIN_CHANNEL | ADMIN_USER};
    char path[256] = "/api/admin/subs";
    json_t *answer = NULL, *s = NULL;
    size_t i = 0;
    enum cli_exit rv = admin_parse(&a, NULL, "List subscriptions, ended ones too.", argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    if (a.channel != NULL && a.user != NULL) {
        return cli_fail(CLI_USAGE, "give --channel or --user, not both");
    }
    if (a.channel != NULL || a.user != NULL) {
        size_t n = strlen(path);
        (void)snprintf(path + n, sizeof(path) - n, "?%s=", a.channel != NULL ? "channel" : "user");
        if (!web_put_value(path, sizeof(path), a.channel != NULL ? a.channel : a.user)) {
            return cli_fail(CLI_USAGE, "name too long");
        }
    }
    rv = admin_ask(&a, "GET", path, NULL, true, &answer);
    json_array_foreach(json_object_get(answer, "subs"), i, s)
    {
        char from[16], until[16];
        admin_day(admin_number(s, "started_ms"), from);
        admin_day(admin_number(s, "expires_ms"), until);
        printf("%-25s  %-25s  tier %d  %s to %s  months %d  by %s\n", admin_text(s, "channel"),
               admin_text(s, "user"), (int)admin_number(s, "tier"), from, until,
               (int)admin_number(s, "months_total"), admin_text(s, "by"));
    }
    json_decref(answer);
    return rv;
}

const struct cli_command cli_sub_commands[] = {
    {"grant", "book a subscription", sub_grant},
    {"refund", "take a booked subscription back", sub_refund},
    {"list", "list subscriptions", sub_list},
    {0},
};
