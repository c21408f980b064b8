/* The log's clients of a workload: one a process, each beginning with another node, all over the
 * same certificates. Loop thread. */
#ifndef JEPSEN_WORKLOADS_CLIENTS_H
#define JEPSEN_WORKLOADS_CLIENTS_H

#include "clients/log/weir_log.h"
#include "jepsen/workloads/workload.h"

#define CLIENT_TIMEOUT_MS 5000 /* after it nobody knows what became of an operation */

struct clients;

int clients_open(struct run *run, struct clients **ret_clients, struct error *err);
/* Frees every client, then cb. */
void clients_close(struct clients *c, void (*cb)(void *data), void *data);
/* The process's; made when first asked for. NULL: no memory. */
struct weir_client *clients_of(struct clients *c, unsigned slot);
/* The same, of a process that reaches one node alone (an index, modulo the founders): near.h. */
struct weir_client *clients_near(struct clients *c, unsigned slot, unsigned node);
/* Frees the process's client, without any farewell, then cb. */
void clients_drop(struct clients *c, unsigned slot, void (*cb)(void *data), void *data);

#endif
