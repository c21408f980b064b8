/* What the clients' programs (workload.c) and the members of groups in them (members.c) share. */
#ifndef TESTS_SIM_WORKLOAD_H
#define TESTS_SIM_WORKLOAD_H

#include "clients/log/weir_log.h"
#include "sim.h"

/* Topic and partition of a group that clients write to. */
const struct config_topic *topic_of(unsigned group, uint32_t *ret_partition);

/* members.c: one member at a time, or none. */
struct sim_member *member_new(struct process *p, struct weir_client *client);
void member_tick(struct sim_member *m, bool ending);

#endif
