/* The commands of `weir cluster`, one file each. */
#ifndef CLIENTS_CLI_CLUSTER_H
#define CLIENTS_CLI_CLUSTER_H

#include "clients/cli/cli.h"

int cluster_certs(int argc, char **argv);

/* cluster_change.c: add, drain, remove, balance. */
int cluster_run_add(int argc, char **argv);
int cluster_run_drain(int argc, char **argv);
int cluster_run_remove(int argc, char **argv);
int cluster_run_balance(int argc, char **argv);

/* cluster_media.c: are the copies of media of a node that is drained on others by now? */
struct cluster_media {
    bool asked;
    int64_t far; /* what was in the log when it was asked first */
};
/* False: `text` says what is still to be done. A cluster whose nodes hold no media has nothing to
 * do. */
bool cluster_media_moved(struct cluster_media *m, const struct cli_cluster *cluster,
                         const char *name, char *text, size_t size);

#endif
