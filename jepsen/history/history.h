/* A history: what every client and the nemesis did, when they began and how it ended, in the format
 * of Jepsen (EDN, one map a line):
 *
 *   {:index 0, :time 1200, :type :invoke, :process 0, :f :send, :value [[:send 7 1]]}
 *
 * :index counts from 0, :time is in nanoseconds of the monotonic clock since history_open. A
 * process has one operation at a time; :ok, :fail (it certainly did not happen) or :info (nobody
 * knows) ends it. After :info the process is dead; its client goes on under another number. The
 * nemesis writes :info only. docs: jepsen/README.md. */
#ifndef JEPSEN_HISTORY_HISTORY_H
#define JEPSEN_HISTORY_HISTORY_H

#include <stdint.h>

struct history;

enum history_type { HISTORY_INVOKE, HISTORY_OK, HISTORY_FAIL, HISTORY_INFO };
#define HISTORY_NEMESIS (-1) /* as a process */

/* Creates the file. NULL: errno says why. */
struct history *history_open(const char *path);
/* Any thread. `f` is a keyword without its colon; `value` is EDN, which further pairs may follow
 * ("[7], :seek-to-beginning? true"), `error` EDN or NULL. */
void history_put(struct history *h, enum history_type type, int64_t process, const char *f,
                 const char *value, const char *error);
/* Nanoseconds since history_open. */
uint64_t history_now_ns(const struct history *h);
/* Flushes and closes. Negative: something could not be written. */
int history_close(struct history *h);

#endif
