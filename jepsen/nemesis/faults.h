/* The faults, by what they are done to. Each pair is the begin and end of an entry of
 * nemesis_faults (faults.c); what they do is said there. */
#ifndef JEPSEN_NEMESIS_FAULTS_H
#define JEPSEN_NEMESIS_FAULTS_H

#include "jepsen/nemesis/nemesis.h"

#define FAULT(name)                                                                                \
    int name(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)

/* faults_net.c */
FAULT(net_isolate);
FAULT(net_halves);
FAULT(net_bridge);
FAULT(net_ring);
FAULT(net_one_way);
FAULT(net_loss);
FAULT(net_delay);
FAULT(net_heal);
/* `to` hears nothing of `from` any more (indexes); until net_heal. */
int net_cut_one_way(struct nemesis_world *w, unsigned from, unsigned to, struct error *err);
/* Those that are hit and those that are not hear nothing of each other; until net_heal. */
int net_cut_hit(struct nemesis_world *w, struct error *err);

/* faults_vote.c */
FAULT(vote_forget);
FAULT(vote_end);

/* faults_deposed.c */
FAULT(node_depose);

/* faults_node.c */
void node_signal_hit(struct nemesis_world *w, int signal);
FAULT(node_kill_one);
FAULT(node_kill_minority);
FAULT(node_kill_all);
FAULT(node_start);
FAULT(node_pause_one);
FAULT(node_pause_minority);
FAULT(node_pause_all);
FAULT(node_resume);
FAULT(node_power_one);
FAULT(node_power_all);
FAULT(node_roll);
FAULT(node_upgrade);
FAULT(node_pause_workers);
FAULT(node_resume_workers);
FAULT(node_kill_workers);
FAULT(node_leave_workers);

/* faults_disk.c */
FAULT(disk_full);
FAULT(disk_empty);
FAULT(disk_read_only);
FAULT(disk_writable);
FAULT(disk_stall);
FAULT(disk_thaw);
FAULT(disk_fail);
FAULT(disk_replace);
FAULT(disk_flip);
FAULT(disk_shorten);
FAULT(disk_wipe);

/* faults_clock.c */
FAULT(clock_jump);
FAULT(clock_drift);
FAULT(clock_strobe);
FAULT(clock_right);

/* faults_member.c */
FAULT(member_come);
FAULT(member_go);
FAULT(member_drain);
FAULT(member_stay);

#endif
