#include "clients/cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum cli_exit(cli_fail)(enum cli_exit status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("weir: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    return status;
}

enum cli_exit cli_exit_of(int code)
{
    switch (code) {
    case 0:
        return CLI_OK;
    case WEIR_ETIMEOUT:
    case WEIR_EUNAVAILABLE:
    case WEIR_EUNKNOWN:
    case WEIR_ENOTLEADER:
    case WEIR_EBUSY:
    case WEIR_ECLOSED:
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return CLI_UNAVAILABLE;
    default:
        return CLI_FAILED;
    }
}

bool cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || v < min || v > max) {
        return false;
    }
    *ret_value = v;
    return true;
}

static bool is_command(const struct cli_group *g)
{
    return g->commands->name != NULL && g->commands->name[0] == '\0';
}

static void print_usage(FILE *out)
{
    fputs("Usage: weir COMMAND ...\n\n"
          "  weir node --config FILE        run a node of the cluster\n",
          out);
    for (const struct cli_group *g = cli_groups; g->name != NULL; g++) {
        char usage[64];
        (void)snprintf(usage, sizeof(usage), "weir %s %s", g->name,
                       is_command(g) ? g->commands->summary : "COMMAND");
        fprintf(out, "  %-30s %s\n", usage, g->summary);
    }
    fputs("\nEvery command has --help. " CLI_EXIT_HELP "\n", out);
}

static void print_group_usage(FILE *out, const struct cli_group *g)
{
    fprintf(out, "Usage: weir %s COMMAND ...\n\n", g->name);
    for (const struct cli_command *c = g->commands; c->name != NULL; c++) {
        char usage[64];
        (void)snprintf(usage, sizeof(usage), "weir %s %s", g->name, c->name);
        fprintf(out, "  %-30s %s\n", usage, c->summary);
    }
    fputs("\nEvery command has --help. " CLI_EXIT_HELP "\n", out);
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "-?") == 0 ||
           strcmp(word, "help") == 0;
}

static int run_in_group(const struct cli_group *g, int argc, char **argv)
{
    if (is_command(g)) {
        char name[64];
        (void)snprintf(name, sizeof(name), "weir %s", g->name);
        argv[0] = name;
        return g->commands->run(argc, argv);
    }
    if (argc < 2) {
        print_group_usage(stderr, g);
        return CLI_USAGE;
    }
    for (const struct cli_command *c = g->commands; c->name != NULL; c++) {
        if (strcmp(argv[1], c->name) == 0) {
            char name[64];
            (void)snprintf(name, sizeof(name), "weir %s %s", g->name, c->name);
            argv[1] = name;
            return c->run(argc - 1, argv + 1);
        }
    }
    if (is_help(argv[1])) {
        print_group_usage(stdout, g);
        return CLI_OK;
    }
    cli_fail(CLI_USAGE, "no command '%s %s'", g->name, argv[1]);
    print_group_usage(stderr, g);
    return CLI_USAGE;
}

int cli_main(int argc, char **argv)
{
    argp_err_exit_status = CLI_USAGE;
    if (argc < 2) {
        print_usage(stderr);
        return CLI_USAGE;
    }
    for (const struct cli_group *g = cli_groups; g->name != NULL; g++) {
        if (strcmp(argv[1], g->name) == 0) {
            return run_in_group(g, argc - 1, argv + 1);
        }
    }
    if (is_help(argv[1])) {
        print_usage(stdout);
        return CLI_OK;
    }
    cli_fail(CLI_USAGE, "no command '%s'", argv[1]);
    print_usage(stderr);
    return CLI_USAGE;
}
