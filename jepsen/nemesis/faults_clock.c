/* Clocks: libfaketime in each node reads <dir>/clock once a second. The monotonic clock stays true.
 */
#include <stdio.h>

#include "jepsen/nemesis/faults.h"

#define JUMP_S_MAX 300

static int set_clock(const struct host *host, const char *text, struct error *err)
{
    char path[256], next[256];
    (void)snprintf(path, sizeof(path), "%s/clock", host->dir);
    (void)snprintf(next, sizeof(next), "%s/clock.next", host->dir);
    FILE *f = fopen(next, "we");
    if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0 || rename(next, path) != 0) {
        return error_set(err, WEIR_EIO, "%s: can't be written", path);
    }
    return 0;
}

static int set_some(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX],
                    void (*draw)(struct nemesis_world *, char *, size_t), unsigned n,
                    struct error *err)
{
    size_t len = (size_t)snprintf(what, NEMESIS_WHAT_MAX, "{");
    char chosen[NEMESIS_WHAT_MAX];
    nemesis_choose(w, n, chosen);
    for (unsigned i = 0; i < w->hosts->n; i++) {
        char text[64];
        if (!w->hit[i]) {
            continue;
        }
        draw(w, text, sizeof(text));
        int rv = set_clock(&w->hosts->at[i], text, err);
        if (rv != 0) {
            return rv;
        }
        len += (size_t)snprintf(what + len, NEMESIS_WHAT_MAX - len, "\"%s\" \"%s\" ",
                                w->hosts->at[i].name, text);
    }
    (void)snprintf(what + len, NEMESIS_WHAT_MAX - len, "}");
    return 0;
}

static void draw_jump(struct nemesis_world *w, char *text, size_t size)
{
    int s = (int)nemesis_random(w, 2 * JUMP_S_MAX + 1) - JUMP_S_MAX;
    (void)snprintf(text, size, "%+d", s);
}

static void draw_drift(struct nemesis_world *w, char *text, size_t size)
{
    unsigned rate = 900 + (unsigned)nemesis_random(w, 201);
    (void)snprintf(text, size, "+0 x%u.%03u", rate / 1000, rate % 1000);
}

int clock_jump(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    return set_some(w, what, draw_jump, 1 + (unsigned)nemesis_random(w, nemesis_members(w)), err);
}

int clock_drift(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    return set_some(w, what, draw_drift, 1 + (unsigned)nemesis_random(w, nemesis_members(w)), err);
}

int clock_strobe(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    int rv = 0;
    for (unsigned i = 0; rv == 0 && i < 4; i++) {
        rv = set_some(w, what, draw_jump, 1, err);
        hosts_pause_ms(1100);
    }
    return rv;
}

int clock_right(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    int rv = 0;
    (void)what;
    for (unsigned i = 0; rv == 0 && i < w->hosts->n; i++) {
        rv = set_clock(&w->hosts->at[i], "+0", err);
    }
    return rv;
}
