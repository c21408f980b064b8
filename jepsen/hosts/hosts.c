#include "jepsen/hosts/names.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS_MAX        16
#define ARGV_MAX        32
#define LINE_MAX_       1024
#define FAKETIME        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
#define OUTPUT_MAX      256
#define ENVIRONMENT_MAX 12

/* --- Programs --- */

/* In the child: the namespace, then nothing of ours stays open. */
static void enter(const char *netns)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/run/netns/%s", netns);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        (void)dprintf(2, "%s: %s\n", path, strerror(errno));
        _exit(126);
    }
}

static void send_output(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || dup2(nothing, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0) {
        _exit(126);
    }
}

static int run(const struct hosts *h, const char *netns, const char *const argv[])
{
    char output[OUTPUT_MAX];
    int status = 0;
    (void)snprintf(output, sizeof(output), "%s/commands", h->work);
    pid_t pid = fork();
    if (pid == 0) {
        send_output(output);
        if (netns != NULL) {
            enter(netns);
        }
        for (unsigned i = 0; argv[i] != NULL; i++) {
            (void)dprintf(1, "%s%s", argv[i], argv[i + 1] != NULL ? " " : "\n");
        }
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
        (void)dprintf(2, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    return pid < 0 ? 126 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int hosts_run(const struct hosts *h, const char *const argv[])
{
    return run(h, NULL, argv);
}

int host_run(const struct hosts *h, const struct host *host, const char *const argv[])
{
    return run(h, h->network ? host->netns : NULL, argv);
}

static int run_line(const struct hosts *h, const char *netns, const char *format, va_list args)
{
    char line[LINE_MAX_], *rest = line;
    const char *argv[ARGV_MAX + 1];
    unsigned n = 0;
    (void)vsnprintf(line, sizeof(line), format, args);
    for (char *word = strsep(&rest, " "); word != NULL && n < ARGV_MAX; word = strsep(&rest, " ")) {
        if (word[0] != '\0') {
            argv[n++] = word;
        }
    }
    argv[n] = NULL;
    return run(h, netns, argv);
}

int hosts_runf(const struct hosts *h, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int rv = run_line(h, NULL, format, args);
    va_end(args);
    return rv;
}

int host_runf(const struct hosts *h, const struct host *host, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int rv = run_line(h, h->network ? host->netns : NULL, format, args);
    va_end(args);
    return rv;
}

/* --- Nodes --- */

struct environment {
    char clock[OUTPUT_MAX], preload[2 * OUTPUT_MAX + 16];
    struct names_environment names;
};

static void put_environment(const struct hosts *h, const struct host *host, struct environment *e,
                            const char *ret_env[ENVIRONMENT_MAX])
{
    unsigned n = 0;
    ret_env[n++] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    if (host->environment[0] != '\0') {
        ret_env[n++] = host->environment;
    }
    names_environment(h, host, &e->names);
    (void)snprintf(e->clock, sizeof(e->clock), "FAKETIME_TIMESTAMP_FILE=%s/clock", host->dir);
    (void)snprintf(e->preload, sizeof(e->preload), "LD_PRELOAD=%s %s",
                   h->fake_clock ? FAKETIME : "", h->lose_names ? e->names.library : "");
    if (h->fake_clock || h->lose_names) {
        ret_env[n++] = e->preload;
    }
    if (h->lose_names) {
        ret_env[n++] = e->names.log;
        ret_env[n++] = e->names.disk;
    }
    if (h->fake_clock) {
        ret_env[n++] = e->clock;
        ret_env[n++] = "FAKETIME_CACHE_DURATION=1";
        ret_env[n++] = "FAKETIME_DONT_FAKE_MONOTONIC=1";
        ret_env[n++] = "FAKETIME_DONT_RESET=1";
    }
    ret_env[n] = NULL;
}

int host_start(struct hosts *h, struct host *host, struct error *err)
{
    char output[OUTPUT_MAX], config[OUTPUT_MAX];
    if (host->pid != 0) {
        return 0;
    }
    (void)snprintf(output, sizeof(output), "%s/output", host->dir);
    (void)snprintf(config, sizeof(config), "%s/node.conf", host->dir);
    const char *const argv[] = {host->program, "node", "--config", config, NULL};
    const char *env[ENVIRONMENT_MAX];
    struct environment environment;
    put_environment(h, host, &environment, env);
    pid_t pid = fork();
    if (pid == 0) {
        send_output(output);
        if (h->network) {
            enter(host->netns);
        }
        (void)execve(host->program, (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)env);
        (void)dprintf(2, "%s: %s\n", host->program, strerror(errno));
        _exit(127);
    }
    if (pid < 0) {
        return error_set(err, WEIR_EIO, "%s: can't start: %s", host->name, strerror(errno));
    }
    host->pid = pid;
    host->paused = false;
    host->starts++;
    return 0;
}

void host_signal(struct host *host, int signal)
{
    if (host->pid == 0) {
        return;
    }
    (void)kill(host->pid, signal);
    if (signal == SIGSTOP || signal == SIGCONT) {
        host->paused = signal == SIGSTOP;
        return;
    }
    if (host->paused && signal != SIGKILL) {
        (void)kill(host->pid, SIGCONT);
    }
    while (waitpid(host->pid, NULL, 0) < 0 && errno == EINTR) {}
    host->pid = 0;
    host->paused = false;
}

bool host_runs(struct host *host)
{
    int status = 0;
    if (host->pid != 0 && waitpid(host->pid, &status, WNOHANG) == host->pid) {
        host->pid = 0;
        host->crashes++;
        host->crash_status = status;
    }
    return host->pid != 0;
}

void hosts_pause_ms(unsigned ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

/* --- Delay --- */

int host_delay_start(struct hosts *h, struct host *host, unsigned ms, unsigned spread_ms,
                     struct error *err)
{
    char program[256], number[16], spread[16], output[OUTPUT_MAX];
    (void)snprintf(program, sizeof(program), "%s/weir-jepsen-delay", h->tools);
    (void)snprintf(number, sizeof(number), "%u", ms);
    (void)snprintf(spread, sizeof(spread), "%u", spread_ms);
    (void)snprintf(output, sizeof(output), "%s/commands", h->work);
    host_delay_stop(host);
    pid_t pid = fork();
    if (pid == 0) {
        send_output(output);
        enter(host->netns);
        (void)execl(program, program, number, spread, (char *)NULL);
        _exit(127);
    }
    if (pid < 0) {
        return error_set(err, WEIR_EIO, "%s: can't start: %s", program, strerror(errno));
    }
    host->delay_pid = pid;
    return 0;
}

void host_delay_stop(struct host *host)
{
    if (host->delay_pid != 0) {
        (void)kill(host->delay_pid, SIGKILL);
        (void)waitpid(host->delay_pid, NULL, 0);
        host->delay_pid = 0;
    }
}

/* --- Disks --- */

int host_mount(struct hosts *h, struct host *host, struct error *err)
{
    if (hosts_runf(h, "mount -o loop,noatime %s %s", host->image, host->disk) != 0) {
        return error_set(err, WEIR_EIO, "%s: can't mount %s (see %s/commands)", host->name,
                         host->image, h->work);
    }
    host->mounted = true;
    return 0;
}

void host_unmount(struct hosts *h, struct host *host)
{
    if (host->mounted) {
        (void)hosts_runf(h, "umount -l %s", host->disk);
        host->mounted = false;
    }
}

static int make_disk(struct hosts *h, struct host *host, uint32_t mib, struct error *err)
{
    if (!h->disks) {
        return 0;
    }
    if (hosts_runf(h, "truncate -s %uM %s", mib, host->image) != 0 ||
        hosts_runf(h, "mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 %s",
                   host->image) != 0) {
        return error_set(err, WEIR_EIO, "%s: can't make %s (see %s/commands)", host->name,
                         host->image, h->work);
    }
    int rv = host_mount(h, host, err);
    return rv == 0 && h->lose_names ? names_prepare(h, host, err) : rv;
}

/* --- Network --- */

static int make_bridge(struct hosts *h, struct error *err)
{
    if (!h->network) {
        return 0;
    }
    if (hosts_runf(h, "ip link add wj%u type bridge", h->run) != 0 ||
        hosts_runf(h, "ip addr add 10.97.%u.254/24 dev wj%u", h->run, h->run) != 0 ||
        hosts_runf(h, "ip link set wj%u up", h->run) != 0) {
        return error_set(err, WEIR_EIO, "can't make the bridge wj%u: root? (see %s/commands)",
                         h->run, h->work);
    }
    /* Frames between hosts are their own firewalls' business. Absent where bridges are not
     * filtered. */
    FILE *f = fopen("/proc/sys/net/bridge/bridge-nf-call-iptables", "we");
    if (f != NULL) {
        (void)fputs("0\n", f);
        (void)fclose(f);
    }
    return 0;
}

static int make_network(struct hosts *h, const struct host *host, struct error *err)
{
    const char *ns = host->netns;
    if (!h->network) {
        return 0;
    }
    if (hosts_runf(h, "ip netns add %s", ns) != 0 ||
        hosts_runf(h, "ip link add %s type veth peer name eth0 netns %s", ns, ns) != 0 ||
        hosts_runf(h, "ip link set %s master wj%u up", ns, h->run) != 0 ||
        hosts_runf(h, "ip -n %s addr add %s/24 dev eth0", ns, host->address) != 0 ||
        hosts_runf(h, "ip -n %s link set eth0 up", ns) != 0 ||
        hosts_runf(h, "ip -n %s link set lo up", ns) != 0) {
        return error_set(err, WEIR_EIO, "%s: can't make its network (see %s/commands)", host->name,
                         h->work);
    }
    return 0;
}

static void drop_network(const struct hosts *h)
{
    for (unsigned i = 0; h->network && i < h->n; i++) {
        (void)hosts_runf(h, "ip netns del %s", h->at[i].netns);
        (void)hosts_runf(h, "ip link del %s", h->at[i].netns);
    }
    if (h->network) {
        (void)hosts_runf(h, "ip link del wj%u", h->run);
    }
}

/* --- Configuration --- */

static void put_node(FILE *f, const struct host *n)
{
    (void)fprintf(f, "cluster.node = %s id=%u peer=%s:%d broker=%s:%d http=%s:%d rtmp=%s:%d\n",
                  n->name, n->number, n->address, HOST_PORT_PEER, n->address, HOST_PORT_LOG,
                  n->address, HOST_PORT_HTTP, n->address, HOST_PORT_RTMP);
}

/* Of a node, or, `host` NULL, of commands: these are called client and have n1's view. */
static int write_config(const struct hosts *h, const char *path, const struct host *host,
                        struct error *err)
{
    const char *name = host != NULL ? host->name : "client";
    bool joins = host != NULL && host->number > h->founders;
    FILE *f = fopen(path, "we");
    if (f == NULL) {
        return error_set(err, WEIR_EIO, "%s: %s", path, strerror(errno));
    }
    (void)fprintf(f, "node.name = %s\nnode.data = %s/data\ncluster.secret = %s\n%s",
                  host != NULL ? host->name : h->at[0].name, host != NULL ? host->disk : h->work,
                  h->secret, joins ? "cluster.join = yes\n" : "");
    for (unsigned i = 0; i < h->founders; i++) {
        put_node(f, &h->at[i]);
    }
    if (joins) {
        put_node(f, host);
    }
    (void)fprintf(f, "%s\n", h->config);
    if (h->tls) {
        (void)fprintf(
            f, "tls.ca = %s/certs/ca.pem\ntls.cert = %s/certs/%s.pem\ntls.key = %s/certs/%s.key\n",
            h->work, h->work, name, h->work, name);
    } else {
        (void)fputs("tls.plain = yes\n", f);
    }
    int failed = ferror(f);
    failed |= fclose(f);
    return failed != 0 ? error_set(err, WEIR_EIO, "%s: can't be written", path) : 0;
}

static int make_certs(struct hosts *h, const struct host *host, struct error *err)
{
    if (hosts_runf(h, "%s cluster certs %s/certs --config %s/node.conf", host->program, h->work,
                   host->dir) != 0) {
        return error_set(err, WEIR_EIO, "no certificates (see %s/commands)", h->work);
    }
    return 0;
}

int host_configure(struct hosts *h, struct host *host, struct error *err)
{
    char path[OUTPUT_MAX];
    (void)snprintf(path, sizeof(path), "%s/node.conf", host->dir);
    int rv = write_config(h, path, host, err);
    return rv == 0 && h->tls ? make_certs(h, host, err) : rv;
}

static int make_host(struct hosts *h, unsigned number, const struct hosts_options *o,
                     struct error *err)
{
    struct host *host = &h->at[h->n++];
    *host = (struct host){.number = number, .member = number <= h->founders};
    (void)snprintf(host->name, sizeof(host->name), "n%u", number);
    (void)snprintf(host->address, sizeof(host->address), "%s.97.%u.%u", h->network ? "10" : "127",
                   h->run, number);
    (void)snprintf(host->netns, sizeof(host->netns), "wj%u-n%u", h->run, number);
    (void)snprintf(host->dir, sizeof(host->dir), "%s/n%u", h->work, number);
    (void)snprintf(host->disk, sizeof(host->disk), "%s/n%u/disk", h->work, number);
    (void)snprintf(host->image, sizeof(host->image), "%s/n%u/image", h->work, number);
    (void)snprintf(host->program, sizeof(host->program), "%s", o->program);
    (void)snprintf(
        host->environment, sizeof(host->environment), "%s",
        o->environment != NULL && (number == 1 || !o->environment_of_one) ? o->environment : "");
    if (mkdir(host->dir, 0755) != 0 || mkdir(host->disk, 0755) != 0) {
        return error_set(err, WEIR_EIO, "%s: %s", host->disk, strerror(errno));
    }
    int rv = make_network(h, host, err);
    return rv == 0 ? make_disk(h, host, o->disk_mib, err) : rv;
}

/* --- All of it --- */

/* The first number that no living run has. */
static int take_run(struct hosts *h, struct error *err)
{
    for (h->run = 0; h->run < RUNS_MAX; h->run++) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/run/weir-jepsen.%u", h->run);
        h->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (h->lock_fd >= 0 && flock(h->lock_fd, LOCK_EX | LOCK_NB) == 0) {
            (void)!ftruncate(h->lock_fd, 0);
            (void)dprintf(h->lock_fd, "%s\n", h->work); /* for those who sweep */
            return 0;
        }
        if (h->lock_fd >= 0) {
            (void)close(h->lock_fd);
        }
    }
    h->lock_fd = -1;
    return error_set(err, WEIR_EBUSY, "%d runs are under way, or /run can't be written", RUNS_MAX);
}

static void make_secret(struct hosts *h)
{
    uint8_t random[16];
    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        abort();
    }
    for (size_t i = 0; i < sizeof(random); i++) {
        (void)snprintf(h->secret + 2 * i, 3, "%02x", random[i]);
    }
}

int hosts_open(struct hosts *h, const struct hosts_options *o, struct error *err)
{
    memset(h, 0, sizeof(*h));
    h->lock_fd = -1;
    h->founders = o->founders;
    h->fake_clock = o->fake_clock;
    h->tls = o->tls;
    h->network = o->network;
    h->disks = o->disks;
    h->lose_names = o->lose_names && o->disks;
    (void)snprintf(h->work, sizeof(h->work), "%s", o->work);
    (void)snprintf(h->tools, sizeof(h->tools), "%s", o->tools);
    (void)snprintf(h->config, sizeof(h->config), "%s", o->config);
    make_secret(h);
    if (mkdir(h->work, 0755) != 0 && errno != EEXIST) {
        return error_set(err, WEIR_EIO, "%s: %s", h->work, strerror(errno));
    }
    int rv = take_run(h, err);
    rv = rv == 0 ? make_bridge(h, err) : rv;
    for (unsigned i = 1; rv == 0 && i <= o->n; i++) {
        rv = make_host(h, i, o, err);
    }
    for (unsigned i = 0; rv == 0 && i < h->n; i++) {
        rv = host_configure(h, &h->at[i], err);
    }
    if (rv == 0) {
        char path[OUTPUT_MAX];
        (void)snprintf(path, sizeof(path), "%s/client.conf", h->work);
        rv = write_config(h, path, NULL, err);
    }
    if (rv != 0) {
        hosts_close(h);
    }
    return rv;
}

void hosts_close(struct hosts *h)
{
    for (unsigned i = 0; i < h->n; i++) {
        struct host *host = &h->at[i];
        host_delay_stop(host);
        if (h->disks) {
            (void)hosts_runf(h, "fsfreeze -u %s", host->disk); /* or nothing on it ever ends */
        }
        host_signal(host, SIGKILL);
        host_unmount(h, host);
        (void)hosts_runf(h, "rm -rf %s/data", host->disk); /* a folder's */
        (void)unlink(host->image);
        (void)rmdir(host->disk);
    }
    if (h->lock_fd >= 0) {
        drop_network(h);
        (void)close(h->lock_fd);
        h->lock_fd = -1;
    }
    h->n = 0;
}

/* Tries a line for sh, then undoes it; when it fails the first thing it said is why. */
static bool can(const char *line, const char *undo, char *why, size_t size)
{
    char said[160] = "", rest[160], full[LINE_MAX_];
    (void)snprintf(full, sizeof(full),
                   "n=wjp%d; d=/tmp/$n; (%s) 2>&1; s=$?; (%s) >/dev/null 2>&1; exit $s",
                   (int)getpid(), line, undo);
    FILE *f = popen(full, "re");
    if (f == NULL) {
        (void)snprintf(why, size, "%s", strerror(errno));
        return false;
    }
    if (fgets(said, sizeof(said), f) != NULL) {
        while (fgets(rest, sizeof(rest), f) != NULL) {}
    }
    int status = pclose(f);
    said[strcspn(said, "\n")] = '\0';
    (void)snprintf(why, size, "%s", status == 0 ? "" : said[0] != '\0' ? said : "it fails");
    return status == 0;
}

void hosts_probe(struct hosts_means *means)
{
    means->network = can("ip netns add $n && ip link add b$n type bridge &&"
                         " ip link add $n type veth peer name eth0 netns $n &&"
                         " ip link set $n master b$n &&"
                         " ip netns exec $n iptables -w -A INPUT -s 127.1.1.1 -j DROP",
                         "ip netns del $n; ip link del $n; ip link del b$n", means->network_why,
                         sizeof(means->network_why));
    means->disks = can("mkdir -p $d/m && truncate -s 16M $d/i && mkfs.ext4 -q -F $d/i &&"
                       " mount -o loop $d/i $d/m",
                       "umount $d/m; rm -rf $d", means->disks_why, sizeof(means->disks_why));
}

/* A lock that nobody holds belongs to a run that is dead. */
void hosts_sweep(void)
{
    for (unsigned r = 0; r < RUNS_MAX; r++) {
        struct hosts h = {.work = "/tmp", .run = r};
        char path[64], line[1024];
        (void)snprintf(path, sizeof(path), "/run/weir-jepsen.%u", r);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
            if (fd >= 0) {
                (void)close(fd);
            }
            continue;
        }
        (void)snprintf(
            line, sizeof(line),
            "for m in $(findmnt -rno TARGET | grep \"^$(head -1 %s)/n[0-9]*/disk\"); do fsfreeze "
            "-u $m; done;"
            " for ns in $(ip netns list | grep -o '^wj%u-n[0-9]*'); do"
            " ip netns pids $ns | xargs -r kill -9; ip netns del $ns; ip link del $ns; done;"
            " for m in $(findmnt -rno TARGET | grep \"^$(head -1 %s)/n[0-9]*/disk\"); do umount -l "
            "$m; rm -f ${m%%disk}image; done;"
            " ip link del wj%u",
            path, r, path, r);
        (void)run(&h, NULL, (const char *const[]){"sh", "-c", line, NULL});
        (void)unlink(path);
        (void)close(fd);
    }
}
