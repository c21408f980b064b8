/* The log role: replicas of every partition, and the listener that clients of the log speak to
 * (docs/protocol.md). It runs on a loop thread of its own; start and stop are called from another
 * thread and block. */
#ifndef NODES_BROKER_BROKER_H
#define NODES_BROKER_BROKER_H

#include "base/config.h"

struct broker;

/* Opens all replicas and listens for peers and clients. A replica that can't be opened (corrupt
 * files) is reported in log, metrics and status, and the others go on. Fails with the address when
 * a port is occupied. `config` outlives the broker. */
int broker_start(const struct config *config, struct broker **ret_broker, struct error *err);
/* Blocks until drained and closed. */
void broker_stop(struct broker *broker);

#endif
