/* Latency over time as SVG: a dot an operation, faults as shaded bands. */
#ifndef JEPSEN_CHECK_PLOT_H
#define JEPSEN_CHECK_PLOT_H

#include "jepsen/history/ops.h"

/* 0, or -1 with errno. */
int plot_write(const struct ops *ops, const char *title, const char *path);

#endif
