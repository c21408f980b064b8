/* weir channel create|key|title|list */
#include <string.h>

#include "clients/cli/admin.h"

static bool channel_path(char path[256], const char *name, const char *rest)
{
    (void)snprintf(path, 256, "/api/admin/channels/");
    if (!web_put_value(path, 200, name)) {
        return false;
    }
    size_t n = strlen(path);
    (void)snprintf(path + n, 256 - n, "%s", rest);
    return true;
}

static int channel_create(int argc, char **argv)
{
    struct admin_args a = {
        .options = ADMIN_OWNER | ADMIN_TITLE, .required = ADMIN_OWNER, .n_words_wanted = 1};
    json_t *answer = NULL;
    enum cli_exit rv = admin_parse(&a, "NAME", "Make a channel.", argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    json_t *body =
        json_pack("{s:s, s:s, s:s*}", "name", a.words[0], "owner", a.owner, "title", a.title);
    rv = admin_ask(&a, "POST", "/api/admin/channels", body, false, &answer);
    if (answer != NULL) {
        printf("channel %s made\n", admin_text(answer, "name"));
        json_decref(answer);
    }
    return rv;
}

static int channel_key(int argc, char **argv)
{
    struct admin_args a = {.n_words_wanted = 1};
    char path[256];
    json_t *answer = NULL;
    enum cli_exit rv = admin_parse(
        &a, "NAME", "Make a stream key; the old one is refused from now on. It is shown only now.",
        argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    if (!channel_path(path, a.words[0], "/key")) {
        return cli_fail(CLI_USAGE, "NAME: too long");
    }
    rv = admin_ask(&a, "POST", path, NULL, false, &answer);
    if (answer != NULL) {
        printf("%s\n", admin_text(answer, "stream_key"));
        json_decref(answer);
    }
    return rv;
}

static int channel_title(int argc, char **argv)
{
    struct admin_args a = {.n_words_wanted = 2};
    char path[256];
    json_t *answer = NULL;
    enum cli_exit rv = admin_parse(&a, "NAME TITLE", "Change the title of a channel.", argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    if (!channel_path(path, a.words[0], "")) {
        return cli_fail(CLI_USAGE, "NAME: too long");
    }
    rv = admin_ask(&a, "POST", path, json_pack("{s:s}", "title", a.words[1]), true, &answer);
    if (answer != NULL) {
        printf("channel %s: %s\n", admin_text(answer, "name"), admin_text(answer, "title"));
        json_decref(answer);
    }
    return rv;
}

static int channel_list(int argc, char **argv)
{
    struct admin_args a = {0};
    json_t *answer = NULL, *channel = NULL;
    size_t i = 0;
    enum cli_exit rv = admin_parse(&a, NULL, "List the channels.", argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    rv = admin_ask(&a, "GET", "/api/channels", NULL, true, &answer);
    json_array_foreach(json_object_get(answer, "channels"), i, channel)
    {
        printf("%-25s  owner %-25s  %s\n", admin_text(channel, "name"),
               admin_text(channel, "owner"), admin_text(channel, "title"));
    }
    json_decref(answer);
    return rv;
}

const struct cli_command cli_channel_commands[] = {
    {"create", "make a channel", channel_create},
    {"key", "make a stream key for a channel", channel_key},
    {"title", "change the title of a channel", channel_title},
    {"list", "list the channels", channel_list},
    {0},
};
