/* weir-check: reads a history, says whether it may be so. Knows nothing of the servers. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jepsen/check/check.h"
#include "jepsen/check/plot.h"

enum { EXIT_VALID = 0, EXIT_INVALID = 1, EXIT_WRONG_USE = 2, EXIT_UNKNOWN = 3 };

static const struct checker checkers[] = {
    {"kafka", "sends and polls of a log, consumer groups", check_kafka},
    {"linear", "registers: read, write, compare-and-set", check_linear},
    {"bank", "transfers between accounts", check_bank},
    {"ledger", "bookings with idempotency keys, double entry", check_ledger},
    {"set", "elements added, and reads of all", check_set},
    {"chat", "rooms as gateways show them", check_chat},
    {"lifecycle", "broadcasts and playlists as edges show them", check_lifecycle},
    {"stats", "figures only", NULL},
};
#define N_CHECKERS (sizeof(checkers) / sizeof(checkers[0]))

static int usage(void)
{
    (void)fputs("usage: weir-check --checker NAME [--plot FILE] [--title TEXT] HISTORY\n\n"
                "Reads a history (EDN, Jepsen's format), prints a verdict (EDN). Exit status: 0 "
                "valid, 1 invalid,\n"
                "2 wrong use, 3 nothing can be said. HISTORY_CHECK_CMD, when set, is run with the "
                "history's\n"
                "path behind it; if it fails, so does this.\n\ncheckers:\n",
                stderr);
    for (size_t i = 0; i < N_CHECKERS; i++) {
        (void)fprintf(stderr, "  %-10s %s\n", checkers[i].name, checkers[i].about);
    }
    return EXIT_WRONG_USE;
}

static const struct checker *find(const char *name)
{
    for (size_t i = 0; name != NULL && i < N_CHECKERS; i++) {
        if (strcmp(checkers[i].name, name) == 0) {
            return &checkers[i];
        }
    }
    return NULL;
}

/* Status of `sh -c "$HISTORY_CHECK_CMD PATH"`; 0 when there is no such command. */
static int ask_outside(const char *path)
{
    const char *command = getenv("HISTORY_CHECK_CMD");
    int status = 0;
    if (command == NULL || command[0] == '\0') {
        return 0;
    }
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char line[4096];
        (void)snprintf(line, sizeof(line), "%s \"$1\"", command);
        (void)execl("/bin/sh", "sh", "-c", line, "sh", path, (char *)NULL);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return 127;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int judge(const struct checker *c, const char *path, const char *plot, const char *title)
{
    struct ops ops;
    struct report r;
    char why[512];
    if (ops_load(&ops, path, why, sizeof(why)) != 0) {
        (void)fprintf(stderr, "weir-check: %s\n", why);
        return EXIT_UNKNOWN;
    }
    report_open(&r);
    if (ops.n == 0) {
        r.unknown = "the history is empty";
    }
    if (c->check != NULL) {
        c->check(&ops, &r);
    }
    check_stats(&ops, &r);
    if (plot != NULL && plot_write(&ops, title, plot) != 0) {
        (void)fprintf(stderr, "weir-check: %s: %s\n", plot, strerror(errno));
    }
    int outside = ask_outside(path);
    if (outside != 0) {
        report_anomaly(&r, "outside-checker", "{:status %d}", outside);
    }
    report_print(&r, c->name, stdout);
    int status = !report_valid(&r) ? EXIT_INVALID : r.unknown != NULL ? EXIT_UNKNOWN : EXIT_VALID;
    report_close(&r);
    ops_free(&ops);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"checker", required_argument, NULL, 'c'},
                                            {"plot", required_argument, NULL, 'p'},
                                            {"title", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    const char *name = NULL, *plot = NULL, *title = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'c':
            name = optarg;
            break;
        case 'p':
            plot = optarg;
            break;
        case 't':
            title = optarg;
            break;
        default:
            return usage();
        }
    }
    const struct checker *checker = find(name);
    if (checker == NULL || optind + 1 != argc) {
        return usage();
    }
    return judge(checker, argv[optind], plot, title != NULL ? title : argv[optind]);
}
