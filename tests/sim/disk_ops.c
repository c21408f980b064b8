/* Files of a simulated process: the disk with its delays and failures.
 *
 * Each request waits its turn in its file's queue, is carried out at one moment and called back at
 * a later one; a process may die in between. A synchronous call keeps the whole loop waiting. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "sim.h"

#define SECTOR 512u

struct file {
    struct env_file base;
    struct list link; /* process.files */
    struct list ios;
    struct event event;
    struct inode *inode;
    bool lock;
};

struct completion {
    struct event event;
    struct env_io *io;
};

static struct file *file_of(struct env_file *file)
{
    return container_of(file, struct file, base);
}

static struct disk *disk_of(struct env *env)
{
    return &process_of(env)->machine->disk;
}

/* --- Time and failures --- */

enum cost { COST_READ, COST_WRITE, COST_SYNC, COST_NAME };

static uint64_t cost_ns(const struct disk *d, enum cost cost)
{
    static const struct {
        uint64_t low, high;
    } costs[] = {[COST_READ] = {5, 60},
                 [COST_WRITE] = {5, 60},
                 [COST_SYNC] = {80, 900},
                 [COST_NAME] = {5, 40}};
    uint64_t ns = sim_between(costs[cost].low, costs[cost].high) * SIM_US;
    return cost == COST_SYNC ? ns * d->slow : ns;
}

/* A synchronous call takes time, and on a stuck disk as long as that is stuck. */
static void wait_for(struct env *env, enum cost cost)
{
    struct process *p = process_of(env);
    const struct disk *d = disk_of(env);
    if (sim.looking) {
        return;
    }
    process_busy(p, cost_ns(d, cost));
    if (cost == COST_SYNC && d->stuck_until_ns > p->busy_until_ns) {
        p->busy_until_ns = d->stuck_until_ns;
    }
}

static int failed(struct error *err, int status)
{
    return error_set(err, status, "simulated: %s", error_name(status));
}

/* Before a change of the disk. True: this one fails. */
static bool change_fails(struct env *env)
{
    const struct disk *d = disk_of(env);
    return d->eio_one_in != 0 && sim_one_in(d->eio_one_in);
}

/* After a change: perhaps the last thing the process did. */
static void changed(struct env *env)
{
    struct process *p = process_of(env);
    struct disk *d = disk_of(env);
    if (d->crash_in > 0 && --d->crash_in == 0) {
        machine_crash(p->machine, sim_one_in(2) ? CRASH_KILL : CRASH_POWER,
                      sim_between(50, 2000) * SIM_MS);
    }
}

static bool room_for(const struct disk *d, uint64_t size, uint64_t end)
{
    return end <= size || disk_used(d) + (end - size) <= d->capacity;
}

/* --- Changes --- */

static int do_write(struct env_file *file, const void *buf, size_t n, uint64_t offset)
{
    struct disk *d = disk_of(file->env);
    struct inode *inode = file_of(file)->inode;
    sim_trace(2, offset << 24 ^ n, crc32c(0, buf, n));
    if (!room_for(d, inode->now.size, offset + n)) {
        return WEIR_ENOSPC;
    }
    if (change_fails(file->env)) {
        uint64_t end =
            (offset + sim_below(n + 1)) / SECTOR * SECTOR; /* no sector is half written */
        inode_write(inode, buf, end > offset ? end - offset : 0, offset);
        return WEIR_EIO;
    }
    inode_write(inode, buf, n, offset);
    changed(file->env);
    return 0;
}

static int do_sync(struct env_file *file)
{
    struct inode *inode = file_of(file)->inode;
    sim_trace(3, inode->now.size, 0);
    if (change_fails(file->env)) {
        inode_forget(inode);
        return WEIR_EIO;
    }
    inode_sync(inode);
    changed(file->env);
    return 0;
}

static int do_resize(struct env_file *file, uint64_t size)
{
    struct disk *d = disk_of(file->env);
    struct inode *inode = file_of(file)->inode;
    sim_trace(4, size, 0);
    if (!room_for(d, inode->now.size, size)) {
        return WEIR_ENOSPC;
    }
    if (change_fails(file->env)) {
        return WEIR_EIO;
    }
    inode_resize(inode, size);
    changed(file->env);
    return 0;
}

static int do_allocate(struct env_file *file, uint64_t size)
{
    return size <= file_of(file)->inode->now.size ? 0 : do_resize(file, size);
}

static int do_dir_sync(struct env *env, const char *dir)
{
    sim_trace(5, crc32c(0, dir, strlen(dir)), 0);
    if (change_fails(env)) {
        return WEIR_EIO;
    }
    disk_names_sync(disk_of(env), dir);
    changed(env);
    return 0;
}

/* --- Synchronous calls --- */

static int op_open(struct env *env, const char *path, int flags, struct env_file **ret_file,
                   struct error *err)
{
    struct disk *d = disk_of(env);
    struct inode *inode = disk_find(d, path);
    wait_for(env, COST_NAME);
    if (inode == NULL && (flags & ENV_OPEN_CREATE) == 0) {
        return error_set(err, WEIR_ENOTFOUND, "open %s: not found", path);
    }
    if (inode != NULL && (flags & ENV_OPEN_EXCL) != 0) {
        return error_set(err, WEIR_EEXISTS, "open %s: already exists", path);
    }
    if (inode != NULL && inode->locked && (flags & ENV_OPEN_LOCK) != 0) {
        return error_set(err, WEIR_EBUSY, "%s: in use by another process", path);
    }
    if (inode == NULL) {
        if (change_fails(env)) {
            return failed(err, WEIR_EIO);
        }
        inode = disk_inode_new(d);
        sim_trace(6, crc32c(0, path, strlen(path)), 0);
        disk_set_name(d, path, inode);
        changed(env);
    }
    struct file *f = sim_alloc(sizeof(*f));
    f->base.env = env;
    f->inode = inode;
    f->lock = (flags & ENV_OPEN_LOCK) != 0;
    inode->locked = inode->locked || f->lock;
    list_init(&f->ios);
    list_push_back(&process_of(env)->files, &f->link);
    *ret_file = &f->base;
    return 0;
}

static void op_close(struct env_file *file)
{
    struct file *f = file_of(file);
    assert(list_empty(&f->ios));
    event_cancel(&f->event);
    f->inode->locked = f->inode->locked && !f->lock;
    list_remove(&f->link);
    free(f);
}

static int op_size(struct env_file *file, uint64_t *ret_size, struct error *err)
{
    (void)err;
    *ret_size = file_of(file)->inode->now.size;
    return 0;
}

static void read_now(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n)
{
    const struct content *c = &file_of(file)->inode->now;
    size_t left = offset < c->size ? c->size - offset : 0;
    n = n < left ? n : left;
    if (n > 0) {
        memcpy(buf, c->data + offset, n);
    }
    *ret_n = n;
}

static int op_pread(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n,
                    struct error *err)
{
    (void)err;
    wait_for(file->env, COST_READ);
    read_now(file, buf, n, offset, ret_n);
    return 0;
}

static int op_pwrite(struct env_file *file, const void *buf, size_t n, uint64_t offset,
                     struct error *err)
{
    wait_for(file->env, COST_WRITE);
    int rv = do_write(file, buf, n, offset);
    return rv == 0 ? 0 : failed(err, rv);
}

static int op_sync(struct env_file *file, struct error *err)
{
    wait_for(file->env, COST_SYNC);
    int rv = do_sync(file);
    return rv == 0 ? 0 : failed(err, rv);
}

static int op_truncate(struct env_file *file, uint64_t size, struct error *err)
{
    wait_for(file->env, COST_NAME);
    int rv = do_resize(file, size);
    return rv == 0 ? 0 : failed(err, rv);
}

static int op_allocate(struct env_file *file, uint64_t size, struct error *err)
{
    wait_for(file->env, COST_NAME);
    int rv = do_allocate(file, size);
    return rv == 0 ? 0 : failed(err, rv);
}

static int op_dir_make(struct env *env, const char *path, struct error *err)
{
    (void)env; /* folders are there as soon as something is in them */
    (void)path;
    (void)err;
    return 0;
}

static int op_dir_sync(struct env *env, const char *path, struct error *err)
{
    wait_for(env, COST_SYNC);
    int rv = do_dir_sync(env, path);
    return rv == 0 ? 0 : failed(err, rv);
}

static int op_dir_list(struct env *env, const char *path, env_dir_cb cb, void *data,
                       struct error *err)
{
    (void)err;
    wait_for(env, COST_NAME);
    return disk_walk(disk_of(env), path, cb, data);
}

static int op_free_bytes(struct env *env, const char *path, uint64_t *ret_bytes, struct error *err)
{
    const struct disk *d = disk_of(env);
    (void)path;
    (void)err;
    uint64_t used = disk_used(d);
    *ret_bytes = used < d->capacity ? d->capacity - used : 0;
    return 0;
}

static int op_rename(struct env *env, const char *from, const char *to, struct error *err)
{
    struct disk *d = disk_of(env);
    struct inode *inode = disk_find(d, from);
    wait_for(env, COST_NAME);
    if (inode == NULL) {
        return error_set(err, WEIR_ENOTFOUND, "rename %s: not found", from);
    }
    if (change_fails(env)) {
        return failed(err, WEIR_EIO);
    }
    sim_trace(7, crc32c(0, to, strlen(to)), 0);
    /* Two entries of the journal: the worst crash leaves both names. */
    disk_set_name(d, to, inode);
    disk_set_name(d, from, NULL);
    changed(env);
    return 0;
}

static int op_unlink(struct env *env, const char *path, struct error *err)
{
    wait_for(env, COST_NAME);
    if (disk_find(disk_of(env), path) == NULL) {
        return error_set(err, WEIR_ENOTFOUND, "remove %s: not found", path);
    }
    if (change_fails(env)) {
        return failed(err, WEIR_EIO);
    }
    sim_trace(8, crc32c(0, path, strlen(path)), 0);
    disk_set_name(disk_of(env), path, NULL);
    changed(env);
    return 0;
}

/* --- Requests --- */

static enum env_io_kind kind_of(const struct env_io *io)
{
    return (enum env_io_kind)(uintptr_t)io->impl[0];
}

static int path_size(struct env *env, struct env_io *io)
{
    const struct inode *inode = disk_find(disk_of(env), io->impl[1]);
    io->offset = inode != NULL ? inode->now.size : 0;
    return inode != NULL ? 0 : WEIR_ENOTFOUND;
}

static int perform(struct env *env, struct env_io *io)
{
    int rv = 0;
    uint64_t at = io->offset;
    switch (kind_of(io)) {
    case ENV_IO_WRITE:
        for (unsigned i = 0; i < io->n_iov && rv == 0; i++) {
            rv = do_write(io->file, io->iov[i].iov_base, io->iov[i].iov_len, at);
            at += io->iov[i].iov_len;
        }
        break;
    case ENV_IO_READ:
        for (unsigned i = 0; i < io->n_iov; i++) {
            size_t n;
            read_now(io->file, io->iov[i].iov_base, io->iov[i].iov_len, at, &n);
            io->n_bytes += n;
            at += n;
        }
        return 0;
    case ENV_IO_ALLOCATE:
        rv = do_allocate(io->file, io->offset);
        break;
    case ENV_IO_DIR_SYNC:
        return do_dir_sync(env, io->impl[1]);
    case ENV_IO_PATH_SIZE:
        return path_size(env, io);
    }
    return rv == 0 && io->sync ? do_sync(io->file) : rv;
}

static void on_completed(struct event *event)
{
    struct completion *c = event->data;
    struct env_io *io = c->io;
    free(c);
    io->cb(io, io->status);
}

static void complete(struct process *p, struct env_io *io)
{
    struct completion *c = sim_alloc(sizeof(*c));
    io->status = perform(&p->env, io);
    c->io = io;
    event_at(&c->event, p, sim.now_ns + sim_below(40 * SIM_US), on_completed, c);
}

static struct list *queue_of(struct event *event)
{
    return event->data == NULL ? &event->owner->dir_ios : &((struct file *)event->data)->ios;
}

static void on_turn_of_io(struct event *event);

/* Lets the first request of a queue take its time. A file's event has the file as its data. */
static void queue_start(struct process *p, struct event *event, struct file *file)
{
    const struct list *queue = file != NULL ? &file->ios : &p->dir_ios;
    if (list_empty(queue)) {
        return;
    }
    const struct env_io *io = list_entry(queue->next, struct env_io, link);
    const struct disk *d = &p->machine->disk;
    uint64_t due = sim.now_ns + cost_ns(d, kind_of(io) == ENV_IO_READ ? COST_READ : COST_WRITE);
    if (io->sync || kind_of(io) == ENV_IO_DIR_SYNC) {
        due += cost_ns(d, COST_SYNC);
    }
    event_at(event, p, due, on_turn_of_io, file);
}

static void on_turn_of_io(struct event *event)
{
    struct process *p = event->owner;
    struct disk *d = &p->machine->disk;
    if (d->stuck_until_ns > sim.now_ns) {
        event_at(event, p, d->stuck_until_ns + sim_below(SIM_MS), on_turn_of_io, event->data);
        return;
    }
    struct list *el = list_pop(queue_of(event));
    complete(p, list_entry(el, struct env_io, link));
    queue_start(p, event, event->data);
}

static void op_io_start(struct env *env, struct env_file *file, const char *path, struct env_io *io,
                        enum env_io_kind kind)
{
    struct process *p = process_of(env);
    struct file *f = file != NULL ? file_of(file) : NULL;
    struct list *queue = f != NULL ? &f->ios : &p->dir_ios;
    bool waiting = !list_empty(queue);
    io->impl[0] = (void *)(uintptr_t)kind;
    io->impl[1] = (void *)(uintptr_t)path;
    list_push_back(queue, &io->link);
    if (!waiting) {
        queue_start(p, f != NULL ? &f->event : &p->dir_event, f);
    }
}

static void op_wait(struct env_file *file)
{
    struct file *f = file_of(file);
    struct process *p = process_of(file->env);
    for (struct list *it; (it = list_pop(&f->ios)) != NULL;) {
        struct env_io *io = list_entry(it, struct env_io, link);
        wait_for(file->env, io->sync ? COST_SYNC : COST_WRITE);
        complete(p, io);
    }
    event_cancel(&f->event);
}

/* The kernel had the first request of each file; a prefix of it may have got to the page cache. */
void files_abandon(struct process *p)
{
    LIST_FOREACH(it, &p->files)
    {
        struct file *f = list_entry(it, struct file, link);
        f->inode->locked = f->inode->locked && !f->lock;
        if (list_empty(&f->ios) || sim_one_in(2)) {
            continue;
        }
        const struct env_io *io = list_entry(f->ios.next, struct env_io, link);
        uint64_t at = io->offset;
        for (unsigned i = 0; kind_of(io) == ENV_IO_WRITE && i < io->n_iov; i++) {
            size_t n = io->iov[i].iov_len;
            if (!room_for(&p->machine->disk, f->inode->now.size, at + n)) {
                break;
            }
            inode_write(f->inode, io->iov[i].iov_base, n, at);
            at += n;
        }
    }
}

const struct env_ops sim_disk_ops = {
    .file_open = op_open,
    .file_close = op_close,
    .file_size = op_size,
    .file_pread = op_pread,
    .file_pwrite = op_pwrite,
    .file_sync = op_sync,
    .file_truncate = op_truncate,
    .file_allocate = op_allocate,
    .io_start = op_io_start,
    .file_wait = op_wait,
    .dir_make = op_dir_make,
    .dir_sync = op_dir_sync,
    .dir_list = op_dir_list,
    .dir_free_bytes = op_free_bytes,
    .rename = op_rename,
    .unlink = op_unlink,
};
