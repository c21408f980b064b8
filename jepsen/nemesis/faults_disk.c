/* Disks: one host at a time; what a node's files lose the others have. */
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jepsen/nemesis/faults.h"

#define FILES_MAX  4096
#define PLACES_MAX 3
#define TRIES_MAX  64
#define BLOCK      4096
#define AROUND     64 /* bytes that must not all be zero, or nothing is written there */

static struct host *choose_one(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX])
{
    nemesis_choose(w, 1, what);
    for (unsigned i = 0; i < w->hosts->n; i++) {
        if (w->hit[i]) {
            return &w->hosts->at[i];
        }
    }
    return &w->hosts->at[0];
}

static struct host *the_one(struct nemesis_world *w)
{
    unsigned i = 0;
    while (i + 1 < w->hosts->n && !w->hit[i]) {
        i++;
    }
    return &w->hosts->at[i];
}

/* A line for sh with %s for the host's mount point, up to three times. */
static int shell(struct nemesis_world *w, const struct host *host, const char *format,
                 struct error *err)
{
    char line[1024];
    (void)snprintf(line, sizeof(line), "d=%s; %s", host->disk, format);
    if (hosts_run(w->hosts, (const char *const[]){"sh", "-c", line, NULL}) != 0) {
        return error_set(err, WEIR_EIO, "%s: failed: %s (see commands)", host->name, format);
    }
    return 0;
}

/* --- Full --- */

int disk_full(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    return shell(w, choose_one(w, what),
                 "fallocate -l $(df -B1 --output=avail $d | tail -1) $d/ballast || "
                 "fallocate -l $(($(df -B1 --output=avail $d | tail -1) - 1048576)) $d/ballast",
                 err);
}

int disk_empty(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)what;
    return shell(w, the_one(w), "rm -f $d/ballast", err);
}

/* --- Read-only: what ext4 does to itself after an error --- */

int disk_read_only(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    return shell(w, choose_one(w, what),
                 "mount -o remount,errors=remount-ro $d && "
                 "echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE $d))/trigger_fs_error",
                 err);
}

static int restart(struct nemesis_world *w, struct host *host, struct error *err)
{
    host_signal(host, SIGKILL);
    return host_start(w->hosts, host, err);
}

int disk_writable(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    struct host *host = the_one(w);
    (void)what;
    host_signal(host, SIGKILL);
    host_unmount(w->hosts, host);
    int status = hosts_runf(w->hosts, "e2fsck -fy %s", host->image); /* 1: mended */
    if (status > 1) {
        return error_set(err, WEIR_EIO, "%s: e2fsck ends with %d", host->name, status);
    }
    int rv = host_mount(w->hosts, host, err);
    return rv == 0 ? host_start(w->hosts, host, err) : rv;
}

/* --- Does not answer --- */

int disk_stall(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    return shell(w, choose_one(w, what), "fsfreeze -f $d", err);
}

int disk_thaw(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)what;
    return shell(w, the_one(w), "fsfreeze -u $d", err);
}

/* --- fsync fails: strace answers in the kernel's place, for a second --- */

int disk_fail(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    struct host *host = choose_one(w, what);
    int status = hosts_runf(w->hosts,
                            "timeout -s INT 1 strace -f -qq -o /dev/null -e trace=fdatasync,fsync "
                            "-e inject=fdatasync,fsync:error=EIO -p %d",
                            (int)host->pid);
    if (status != 124 && status != 130) {
        return error_set(err, WEIR_EIO, "%s: strace ends with %d", host->name, status);
    }
    return 0;
}

/* A process that was told that its data may be gone has to be started anew (docs/log.md). */
int disk_replace(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    (void)what;
    return restart(w, the_one(w), err);
}

/* --- Damage --- */

/* Files of the node, gathered by nftw, which has no argument for its caller. */
static struct {
    char *paths[FILES_MAX];
    off_t sizes[FILES_MAX];
    unsigned n;
} found;

static int take_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)ftw;
    if (type == FTW_F && st->st_size > 0 && found.n < FILES_MAX) {
        found.paths[found.n] = strdup(path);
        found.sizes[found.n] = st->st_size;
        found.n += found.paths[found.n] != NULL;
    }
    return 0;
}

static void find_files(const struct host *host)
{
    char path[256];
    found.n = 0;
    (void)snprintf(path, sizeof(path), "%s/data/log", host->disk);
    (void)nftw(path, take_file, 16, FTW_PHYS);
    (void)snprintf(path, sizeof(path), "%s/data/votes", host->disk);
    (void)nftw(path, take_file, 16, FTW_PHYS);
}

static void forget_files(void)
{
    for (unsigned i = 0; i < found.n; i++) {
        free(found.paths[i]);
    }
    found.n = 0;
}

/* How much of a file has been written: room that was reserved behind it is zeros. */
static off_t written(int fd, off_t size)
{
    for (off_t at = (size - 1) / BLOCK * BLOCK; at >= 0; at -= BLOCK) {
        uint8_t block[BLOCK];
        ssize_t n = pread(fd, block, sizeof(block), at);
        while (n > 0 && block[n - 1] == 0) {
            n--;
        }
        if (n > 0) {
            return at + n;
        }
    }
    return size;
}

/* A place in a file where something has been written. */
static bool find_place(struct nemesis_world *w, int fd, off_t size, off_t *ret_at)
{
    static const uint8_t zeros[AROUND];
    size = written(fd, size);
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        uint8_t around[AROUND];
        off_t at = (off_t)nemesis_random(w, (uint64_t)size);
        ssize_t n = pread(fd, around, sizeof(around), at);
        if (n > 0 && memcmp(around, zeros, (size_t)n) != 0) {
            *ret_at = at;
            return true;
        }
    }
    return false;
}

static bool flip_one(struct nemesis_world *w, const char *path, off_t size)
{
    uint8_t byte;
    off_t at = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool done = fd >= 0 && find_place(w, fd, size, &at) && pread(fd, &byte, 1, at) == 1;
    if (done) {
        byte ^= (uint8_t)(1u << nemesis_random(w, 8));
        done = pwrite(fd, &byte, 1, at) == 1 && fsync(fd) == 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return done;
}

static bool truncate_one(struct nemesis_world *w, const char *path, off_t size)
{
    return truncate(path, (off_t)nemesis_random(w, (uint64_t)size)) == 0;
}

/* A file as likely as any other, or as its size has it: else the small ones would get it all, or
 * segments would. */
static unsigned draw_file(struct nemesis_world *w)
{
    uint64_t sum = 0;
    unsigned k = 0;
    if (nemesis_random(w, 2) == 0) {
        return (unsigned)nemesis_random(w, found.n);
    }
    for (unsigned i = 0; i < found.n; i++) {
        sum += (uint64_t)found.sizes[i];
    }
    for (uint64_t at = nemesis_random(w, sum); at >= (uint64_t)found.sizes[k]; k++) {
        at -= (uint64_t)found.sizes[k];
    }
    return k;
}

/* A node that was stopped in good order: what a disk loses of the last second before a crash can't
 * be told from what it never had (docs/log.md, limits). */
static int damage(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], unsigned places,
                  bool (*harm)(struct nemesis_world *, const char *, off_t), struct error *err)
{
    struct host *host = choose_one(w, what);
    size_t len = (size_t)snprintf(what, NEMESIS_WHAT_MAX, "{\"%s\" [", host->name);
    host_signal(host, SIGTERM);
    find_files(host);
    for (unsigned i = 0; i < places && found.n > 0; i++) {
        unsigned k = draw_file(w);
        const char *name = found.paths[k] + strlen(host->disk);
        if (harm(w, found.paths[k], found.sizes[k]) && len + strlen(name) + 8 < NEMESIS_WHAT_MAX) {
            len += (size_t)snprintf(what + len, NEMESIS_WHAT_MAX - len, "\"%s\" ", name);
        }
    }
    (void)snprintf(what + len, NEMESIS_WHAT_MAX - len, "]}");
    forget_files();
    return host_start(w->hosts, host, err);
}

int disk_flip(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    return damage(w, what, 1 + (unsigned)nemesis_random(w, PLACES_MAX), flip_one, err);
}

int disk_shorten(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    return damage(w, what, 1, truncate_one, err);
}

int disk_wipe(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    struct host *host = choose_one(w, what);
    host_signal(host, SIGKILL);
    int rv = shell(w, host, "rm -rf $d/data", err);
    return rv == 0 ? host_start(w->hosts, host, err) : rv;
}
