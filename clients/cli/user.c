/* weir user create|token|list */
#include <string.h>

#include "clients/cli/admin.h"

static int user_create(int argc, char **argv)
{
    struct admin_args a = {.options = ADMIN_DISPLAY_NAME, .n_words_wanted = 1};
    json_t *answer = NULL;
    enum cli_exit rv =
        admin_parse(&a, "NAME", "Make a user. A name has 2 to 25 of a-z, 0-9 and _.", argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    json_t *body = json_pack("{s:s, s:s*}", "name", a.words[0], "display_name", a.display_name);
    rv = admin_ask(&a, "POST", "/api/admin/users", body, false, &answer);
    if (answer != NULL) {
        printf("user %s made\n", admin_text(answer, "name"));
        json_decref(answer);
    }
    return rv;
}

static int user_token(int argc, char **argv)
{
    struct admin_args a = {.n_words_wanted = 1};
    char path[256] = "/api/admin/users/";
    json_t *answer = NULL;
    enum cli_exit rv = admin_parse(
        &a, "NAME", "Make a token with which the user writes in chat. It is shown only now.", argc,
        argv);
    if (rv != CLI_OK) {
        return rv;
    }
    if (!web_put_value(path, sizeof(path) - sizeof("/tokens"), a.words[0])) {
        return cli_fail(CLI_USAGE, "NAME: too long");
    }
    size_t n = strlen(path);
    (void)snprintf(path + n, sizeof(path) - n, "/tokens");
    rv = admin_ask(&a, "POST", path, NULL, false, &answer);
    if (answer != NULL) {
        printf("%s\n", admin_text(answer, "token"));
        json_decref(answer);
    }
    return rv;
}

static int user_list(int argc, char **argv)
{
    struct admin_args a = {0};
    json_t *answer = NULL, *user = NULL;
    size_t i = 0;
    enum cli_exit rv = admin_parse(&a, NULL, "List the users.", argc, argv);
    if (rv != CLI_OK) {
        return rv;
    }
    rv = admin_ask(&a, "GET", "/api/admin/users", NULL, true, &answer);
    json_array_foreach(json_object_get(answer, "users"), i, user)
    {
        char day[16];
        admin_day(admin_number(user, "created_ms"), day);
        printf("%-25s  %-25s  since %s  tokens %d\n", admin_text(user, "name"),
               admin_text(user, "display_name"), day, (int)admin_number(user, "tokens"));
    }
    json_decref(answer);
    return rv;
}

const struct cli_command cli_user_commands[] = {
    {"create", "make a user", user_create},
    {"token", "make a token for a user", user_token},
    {"list", "list the users", user_list},
    {0},
};
