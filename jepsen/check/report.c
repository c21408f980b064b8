#include "jepsen/check/report.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "jepsen/history/memory.h"

void report_open(struct report *r)
{
    memset(r, 0, sizeof(*r));
    r->figures_out = memory_need(open_memstream(&r->figures, &r->figures_len));
}

void report_close(struct report *r)
{
    (void)fclose(r->figures_out);
    free(r->figures);
}

static struct report_anomaly *find(struct report *r, const char *name)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (strcmp(r->anomalies[i].name, name) == 0) {
            return &r->anomalies[i];
        }
    }
    if (r->n == REPORT_NAMES_MAX) {
        abort(); /* names are those of the checkers */
    }
    r->anomalies[r->n] = (struct report_anomaly){.name = name};
    return &r->anomalies[r->n++];
}

static void add(struct report *r, const char *name, bool harmless, const char *format, va_list args)
{
    struct report_anomaly *a = find(r, name);
    a->harmless = harmless;
    if (a->n < REPORT_SHOWN_MAX) {
        (void)vsnprintf(a->shown[a->n], REPORT_TEXT_MAX, format, args);
    }
    a->n++;
}

void report_anomaly(struct report *r, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(r, name, false, format, args);
    va_end(args);
}

void report_harmless(struct report *r, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add(r, name, true, format, args);
    va_end(args);
}

void report_figure(struct report *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("\n  ", r->figures_out);
    (void)vfprintf(r->figures_out, format, args);
    va_end(args);
}

bool report_valid(const struct report *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (!r->anomalies[i].harmless) {
            return false;
        }
    }
    return true;
}

uint64_t report_count(const struct report *r, const char *name)
{
    for (unsigned i = 0; i < r->n; i++) {
        if (strcmp(r->anomalies[i].name, name) == 0) {
            return r->anomalies[i].n;
        }
    }
    return 0;
}

static void print_anomalies(const struct report *r, bool harmless, const char *title, FILE *out)
{
    (void)fprintf(out, "\n :%s {", title);
    for (unsigned i = 0; i < r->n; i++) {
        const struct report_anomaly *a = &r->anomalies[i];
        if (a->harmless != harmless) {
            continue;
        }
        (void)fprintf(out, "\n  :%s {:count %llu, :first [", a->name, (unsigned long long)a->n);
        for (uint64_t k = 0; k < a->n && k < REPORT_SHOWN_MAX; k++) {
            (void)fprintf(out, "\n   %s", a->shown[k]);
        }
        (void)fputs("]}", out);
    }
    (void)fputs("}", out);
}

void report_print(const struct report *r, const char *checker, FILE *out)
{
    bool valid = report_valid(r);
    (void)fflush(r->figures_out);
    (void)fprintf(out, "{:valid? %s, :checker :%s",
                  !valid               ? "false"
                  : r->unknown != NULL ? ":unknown"
                                       : "true",
                  checker);
    if (r->unknown != NULL) {
        (void)fprintf(out, ", :unknown \"%s\"", r->unknown);
    }
    print_anomalies(r, false, "anomalies", out);
    print_anomalies(r, true, "notes", out);
    (void)fprintf(out, "\n :figures {%s}}\n", r->figures);
}
