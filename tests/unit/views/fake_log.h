/* The client of the log, replaced at link time (--wrap): one partition per topic in memory. What is
 * produced is stored at once; it is acknowledged and comes to the consumer in later turns of the
 * loop, in the order a test asks for. */
#ifndef TESTS_FAKE_LOG_H
#define TESTS_FAKE_LOG_H

#include "clients/log/weir_log.h"

struct fake_log {
    struct env *env;
    bool hold_acks, hold_records; /* until fake_log_release */
    bool ack_first;               /* the acknowledgement comes before the record; else behind it */
    bool twice;                   /* every record is stored twice; the second one is acknowledged */
    bool range;                   /* consumers fail with WEIR_ERANGE */
    bool no_topics;               /* topics are not known */
    int produce_status;           /* of acknowledgements */
    unsigned n_produced, n_consumers;
};
extern struct fake_log fake_log;

/* Empty. What is held goes on with fake_log_release. */
void fake_log_open(struct env *env);
void fake_log_close(void);
void fake_log_release(void);
/* To give to views_open. */
struct weir_client *fake_log_client(void);

#endif
