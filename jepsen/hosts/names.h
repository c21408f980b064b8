/* What a power failure takes from folders. ext4 makes names durable along with other things; POSIX
 * promises them only once their folder was synced. So nodes that are to lose their power write down
 * which names they make, change and remove, and which folders they sync (tests/power/names.c, an
 * LD_PRELOAD library; its log is <host's dir>/names, and files that lost their last name are kept
 * in <disk>/kept), and at the failure the rest is taken back. What a
 * process before the present one changed counts as durable. */
#ifndef JEPSEN_HOSTS_NAMES_H
#define JEPSEN_HOSTS_NAMES_H

#include "jepsen/hosts/hosts.h"

/* NAME=VALUE for the node: LD_PRELOAD's file, the log's, the disk's. */
struct names_environment {
    char library[256], log[256], disk[256];
};
void names_environment(const struct hosts *h, const struct host *host,
                       struct names_environment *ret_environment);
/* Makes the folder for what is kept. WEIR_EIO: also without the library. */
int names_prepare(struct hosts *h, struct host *host, struct error *err);
/* The node is dead, its disk mounted as it is after the failure. In each folder the changes since
 * it was synced, but for the first few, are taken back; `random` below 2 says of each whether it
 * made it. *ret_lost: how many were taken back. */
int names_lose(struct hosts *h, struct host *host, uint64_t (*random)(void *data, uint64_t below),
               void *data, unsigned *ret_lost, struct error *err);

#endif
