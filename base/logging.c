#include "base/logging.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE 2048

static _Atomic int log_level_now = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

/* Values come from outside: nothing in them may look like another line, or drive a terminal. */
static void defuse(char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20 || c == 0x7f) {
            s[i] = '?';
        }
    }
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    if ((int)level > atomic_load_explicit(&log_level_now, memory_order_relaxed)) {
        return;
    }
    char line[LINE_SIZE];
    struct timespec now;
    struct tm tm;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    int more = snprintf(line + n, sizeof(line) - n, ".%03dZ %s %s ", (int)(now.tv_nsec / 1000000),
                        names[level], event);
    n += more > 0 ? (size_t)more : 0;
    n = n < sizeof(line) - 1 ? n : sizeof(line) - 1;
    va_list args;
    va_start(args, fmt);
    more = vsnprintf(line + n, sizeof(line) - n, fmt, args);
    va_end(args);
    n += more > 0 ? (size_t)more : 0;
    n = n < sizeof(line) - 1 ? n : sizeof(line) - 1; /* cut, leaving room for the newline */
    defuse(line, n);
    line[n++] = '\n';
    /* One write a line: lines of several threads do not mix. */
    ssize_t ignored = write(STDERR_FILENO, line, n);
    (void)ignored;
}
