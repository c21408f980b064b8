/* Hosts: each a network namespace with its own address, disk, clock and firewall, joined by a
 * bridge whose end in the machine's own namespace, 10.97.R.254, is where clients are. R tells runs
 * at the same time apart.
 *
 *   host i     namespace wjR-n<i>, address 10.97.R.<i>, disk an ext4 image on a loop device mounted
 * at <work>/n<i>/disk, clock the file <work>/n<i>/clock (libfaketime reads it; the monotonic clock
 * stays true)
 *
 * A node's program, configuration and output are outside of its disk. Everything is taken down by
 * hosts_close, also after a failure; hosts_sweep clears what a run that was killed left behind.
 *
 * Where a machine allows no namespaces (a container), hosts are loopback addresses, 127.97.R.<i>,
 * without firewalls; where it allows no loop devices, disks are folders. Faults that need more
 * can't be done there (hosts_probe).
 *
 * Needs root. All calls block. One thread at a time. */
#ifndef JEPSEN_HOSTS_HOSTS_H
#define JEPSEN_HOSTS_HOSTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define HOSTS_MAX      8
#define HOST_PORT_PEER 7401
#define HOST_PORT_LOG  7402
#define HOST_PORT_HTTP 7480
#define HOST_PORT_RTMP 1935

struct host {
    unsigned number; /* from 1: n1, n2, ...; the node's id */
    char name[8];
    char address[16];
    char netns[16];
    char dir[192];  /* <work>/n1: node.conf, output, clock */
    char disk[200]; /* mount point; the node's data are in it */
    char image[200];
    char program[200];     /* the weir that it runs; an upgrade changes it */
    char environment[200]; /* NAME=VALUE for the node, or empty: fault builds */
    pid_t pid;             /* of the running node; 0: none */
    bool paused, mounted, member;
    unsigned starts, crashes; /* ended by itself so often, last with crash_status (waitpid's) */
    int crash_status;
    pid_t delay_pid; /* of the program that delays what it hears; 0: none */
};

struct hosts {
    unsigned run; /* R */
    int lock_fd;
    bool fake_clock, tls;
    bool network, disks; /* each host's own, rather than shared */
    bool lose_names;     /* nodes write down which names they change: names.h */
    char work[160];
    char secret[40];
    char tools[200];
    char config[2048]; /* what all nodes have beside names and addresses */
    struct host at[HOSTS_MAX];
    unsigned n;
    unsigned founders; /* the first ones; the others join when the nemesis adds them */
};

struct hosts_options {
    const char *work;        /* a folder of this run; made */
    const char *program;     /* weir */
    const char *tools;       /* folder of weir-jepsen-delay */
    const char *environment; /* NAME=VALUE, or NULL */
    bool environment_of_one; /* of the first host alone */
    unsigned n, founders;
    uint32_t disk_mib;
    bool fake_clock, tls;
    bool network, disks; /* hosts_means */
    bool lose_names;
    const char *config; /* lines of configuration for all nodes */
};
/* What this machine lets us do. What it refuses is tried, and told in words. */
struct hosts_means {
    bool network, disks;
    char network_why[160], disks_why[160]; /* empty: it is there */
};
void hosts_probe(struct hosts_means *ret_means);

/* Namespaces, disks and configurations; nothing runs yet. */
int hosts_open(struct hosts *h, const struct hosts_options *options, struct error *err);
/* Kills all, unmounts, takes the network down. The work folder stays, without images. */
void hosts_close(struct hosts *h);
/* What dead runs left: namespaces, bridges, mounts. */
void hosts_sweep(void);

/* The node's process. Start returns when the process runs, not when it serves. */
int host_start(struct hosts *h, struct host *host, struct error *err);
/* Waits for its end, unless the signal is SIGSTOP or SIGCONT. */
void host_signal(struct host *host, int signal);
/* Notices (and counts) when it ended by itself. */
bool host_runs(struct host *host);
/* Writes its configuration again, for the number and name that it has now. */
int host_configure(struct hosts *h, struct host *host, struct error *err);
int host_mount(struct hosts *h, struct host *host, struct error *err);
void host_unmount(struct hosts *h, struct host *host);

/* Runs a program; what it prints goes to <work>/commands. 0, its exit status, or 128 + signal.
 * `argv` ends with NULL. */
int hosts_run(const struct hosts *h, const char *const argv[]);
/* In the host's namespace. */
int host_run(const struct hosts *h, const struct host *host, const char *const argv[]);
/* Both, from one line, split at blanks: host_runf(h, host, "iptables -F"). */
int hosts_runf(const struct hosts *h, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int host_runf(const struct hosts *h, const struct host *host, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void hosts_pause_ms(unsigned ms);

/* Packets that its firewall hands to queue 0 are kept for `ms`, give or take half of `spread_ms`
 * (delay.c; at least 1, at most twice `ms`). */
int host_delay_start(struct hosts *h, struct host *host, unsigned ms, unsigned spread_ms,
                     struct error *err);
void host_delay_stop(struct host *host);

#endif
