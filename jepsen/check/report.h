/* A verdict in the making: anomalies by name, the first few of each in full, and figures. */
#ifndef JEPSEN_CHECK_REPORT_H
#define JEPSEN_CHECK_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define REPORT_NAMES_MAX 32
#define REPORT_SHOWN_MAX 8
#define REPORT_TEXT_MAX  400

struct report_anomaly {
    const char *name;
    uint64_t n;
    bool harmless; /* worth knowing, no reason to call the history invalid */
    char shown[REPORT_SHOWN_MAX][REPORT_TEXT_MAX];
};

struct report {
    struct report_anomaly anomalies[REPORT_NAMES_MAX];
    unsigned n;
    const char *unknown; /* why nothing can be said; NULL: it can */
    char *figures;       /* EDN: ":name value, ..." */
    size_t figures_len;
    FILE *figures_out;
};

void report_open(struct report *r);
void report_close(struct report *r);
/* `name` is Jepsen's, and is kept, not copied; what follows is EDN. */
void report_anomaly(struct report *r, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void report_harmless(struct report *r, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* ":name value" */
void report_figure(struct report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool report_valid(const struct report *r);
uint64_t report_count(const struct report *r, const char *name);
void report_print(const struct report *r, const char *checker, FILE *out);

#endif
