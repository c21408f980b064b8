/* A broker on a loop thread of its own. Start and stop are called from another thread and block. */
#ifndef NODES_BROKER_BROKER_THREAD_H
#define NODES_BROKER_BROKER_THREAD_H

#include "base/config.h"

struct broker_thread;

/* As broker_open, and returns when that is done. `config` outlives the thread. */
int broker_start(const struct config *config, struct broker_thread **ret_thread, struct error *err);
/* Has it read its TLS files again (tls_net_reload); how that went is logged. Does not block. */
void broker_reload(struct broker_thread *thread);
/* Blocks until the broker is drained and closed and the thread gone. */
void broker_stop(struct broker_thread *thread);

#endif
