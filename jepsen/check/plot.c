#include "jepsen/check/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jepsen/check/windows.h"

#define WIDTH   1200
#define HEIGHT  480
#define LEFT    70
#define TOP     40
#define DOT     2
#define DECADES 6  /* from 0.1 ms to 100 s */
#define ROW     14 /* of a fault's name */

struct plot {
    FILE *out;
    double end_s;
    uint8_t *taken; /* a bit an outcome at each dot: many operations look like one */
};

static double x_of(const struct plot *p, int64_t ns)
{
    return LEFT + (double)ns / 1e9 / p->end_s * (WIDTH - LEFT - 20);
}

static double y_of(int64_t latency_ns)
{
    double ms = (double)latency_ns / 1e6;
    double decades = log10(ms < 0.1 ? 0.1 : ms) + 1;
    return TOP + (1 - (decades > DECADES ? DECADES : decades) / DECADES) * HEIGHT;
}

static void draw_axes(const struct plot *p)
{
    static const char *const labels[] = {"0.1 ms", "1 ms", "10 ms", "100 ms",
                                         "1 s",    "10 s", "100 s"};
    for (int i = 0; i <= DECADES; i++) {
        double y = TOP + (1 - (double)i / DECADES) * HEIGHT;
        (void)fprintf(p->out,
                      "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' stroke='#ddd'/>"
                      "<text x='%d' y='%.1f' text-anchor='end'>%s</text>\n",
                      LEFT, WIDTH - 20, y, y, LEFT - 6, y + 4, labels[i]);
    }
    double step = pow(10, floor(log10(p->end_s)));
    step = p->end_s / step < 3 ? step / 5 : p->end_s / step < 6 ? step / 2 : step;
    for (unsigned i = 0; i * step <= p->end_s; i++) {
        double s = i * step;
        double x = x_of(p, (int64_t)(s * 1e9));
        (void)fprintf(p->out,
                      "<line x1='%.1f' x2='%.1f' y1='%d' y2='%d' stroke='#eee'/>"
                      "<text x='%.1f' y='%d' text-anchor='middle'>%g s</text>\n",
                      x, x, TOP, TOP + HEIGHT, x, TOP + HEIGHT + 16, s);
    }
}

/* Bands of different faults have different colours; their names stand in rows, so that neighbours
 * can be read. */
static void draw_faults(const struct plot *p, const struct windows *w)
{
    static const char *const colours[] = {"#e8a33d", "#c95d63", "#6b8fb4",
                                          "#7fa36b", "#9a77b5", "#b58b6b"};
    for (size_t i = 0; i < w->n; i++) {
        size_t first = 0;
        while (!window_same(&w->at[first], &w->at[i])) {
            first++;
        }
        double x = x_of(p, w->at[i].start_ns), end = x_of(p, w->at[i].stop_ns);
        const char *colour = colours[first % (sizeof(colours) / sizeof(colours[0]))];
        (void)fprintf(p->out,
                      "<rect x='%.1f' y='%d' width='%.1f' height='%d' fill='%s' opacity='0.25'/>"
                      "<text x='%.1f' y='%zu' fill='#555'>%.*s</text>\n",
                      x, TOP, end - x < 1 ? 1 : end - x, HEIGHT, colour, x + 2,
                      TOP + 12 + i % 4 * ROW, w->at[i].len, w->at[i].name);
    }
}

static void draw_op(struct plot *p, const struct op *op)
{
    size_t x = (size_t)x_of(p, op->other->time_ns) / DOT * DOT;
    size_t y = (size_t)y_of(op->time_ns - op->other->time_ns) / DOT * DOT;
    uint8_t bit = (uint8_t)(1u << op->type);
    if ((p->taken[y * WIDTH + x] & bit) == 0) {
        p->taken[y * WIDTH + x] |= bit;
        (void)fprintf(p->out, "M%zu %zuh0", x, y);
    }
}

/* One path of dots; what is worth seeing comes last, on top. */
static void draw_ops(struct plot *p, const struct ops *ops, enum history_type type,
                     const char *colour)
{
    (void)fprintf(p->out,
                  "<path fill='none' stroke='%s' stroke-width='3' stroke-linecap='round' d='",
                  colour);
    for (size_t i = 0; i < ops->n; i++) {
        const struct op *op = &ops->at[i];
        if (op->process != HISTORY_NEMESIS && op->type == type && op->other != NULL) {
            draw_op(p, op);
        }
    }
    (void)fputs("'/>\n", p->out);
}

static void draw(struct plot *p, const struct ops *ops, const char *title)
{
    struct windows w;
    (void)fprintf(p->out,
                  "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' "
                  "font-family='sans-serif' font-size='11'>\n"
                  "<rect width='100%%' height='100%%' fill='white'/>\n"
                  "<text x='%d' y='20' font-size='15'>%s</text>\n"
                  "<text x='%d' y='20' text-anchor='end'>blue: ok, pink: failed, orange: nobody "
                  "knows; shaded: faults</text>\n",
                  WIDTH, TOP + HEIGHT + 30, LEFT, title, WIDTH - 20);
    windows_find(&w, ops);
    draw_faults(p, &w);
    draw_axes(p);
    draw_ops(p, ops, HISTORY_OK, "#2f6db5");
    draw_ops(p, ops, HISTORY_FAIL, "#c2497e");
    draw_ops(p, ops, HISTORY_INFO, "#e58a00");
    (void)fputs("</svg>\n", p->out);
    windows_free(&w);
}

int plot_write(const struct ops *ops, const char *title, const char *path)
{
    struct plot p = {.out = fopen(path, "we")};
    if (p.out == NULL) {
        return -1;
    }
    p.end_s = ops->n > 0 ? (double)ops->at[ops->n - 1].time_ns / 1e9 : 0;
    p.end_s = p.end_s > 0.001 ? p.end_s : 0.001;
    p.taken = calloc((size_t)WIDTH * (TOP + HEIGHT + 2), 1);
    if (p.taken != NULL) {
        draw(&p, ops, title);
    }
    int failed = p.taken == NULL || ferror(p.out);
    free(p.taken);
    return fclose(p.out) != 0 || failed ? -1 : 0;
}
