/* Proof that it sees: nodes of a fault build break one promise at a time (base/fault.h), and a
 * workload under a nemesis has to find it. A fault is found when a run is invalid for one of the
 * reasons that its line of the table names: another anomaly, a node that did not come back or a
 * run that could not be checked is no proof. */
#ifndef JEPSEN_CONTROL_PROOF_H
#define JEPSEN_CONTROL_PROOF_H

#include "jepsen/control/matrix.h"

/* Every line of the table, or, `fault` not NULL, those of these faults (commas between): runs with
 * seeds that count up until it is found, at most options->runs. Prints and keeps (faults.txt in the
 * store) what was found when. The exit status: 0 all were found, 1 one was not, 2 there is no such
 * fault. */
int proof(const struct matrix_options *options, const char *fault);

#endif
