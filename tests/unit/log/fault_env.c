#include "fault_env.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env_ops.h"
#include "fault_disk.h"

#define SECTOR 512

struct fault_file {
    struct env_file base;
    struct inode *inode;
    bool lock;
};

struct fault_env {
    struct env base;
    uint64_t now_ns, random, free_bytes;
    struct list inodes, names, durable_names, name_changes;
    struct list deferred, ios, timers;
    unsigned step, crash_at, fail_at;
    int fail_status;
    bool crashed;
};

static struct fault_env *of(const struct env *env)
{
    return container_of((void *)(uintptr_t)env, struct fault_env, base);
}

static uint64_t next_random(struct fault_env *e)
{
    e->random ^= e->random << 13;
    e->random ^= e->random >> 7;
    e->random ^= e->random << 17;
    return e->random;
}

static struct inode *inode_new(struct fault_env *e)
{
    struct inode *inode = must_alloc(sizeof(*inode));
    list_init(&inode->changes);
    list_push_back(&e->inodes, &inode->link);
    return inode;
}

/* --- Names --- */

static void name_change(struct fault_env *e, const char *path, struct inode *inode)
{
    struct rename_op *op = must_alloc(sizeof(*op) + strlen(path) + 1);
    memcpy(op->path, path, strlen(path) + 1);
    op->inode = inode;
    list_push_back(&e->name_changes, &op->link);
    name_set(&e->names, path, inode);
}

/* --- Steps --- */

/* 0: go on. Else the status, and *ret_partly says that a write or name change may begin. */
static int step(struct fault_env *e, bool *ret_partly)
{
    *ret_partly = false;
    if (e->crashed) {
        return WEIR_EIO;
    }
    e->step++;
    if (e->step == e->crash_at) {
        e->crashed = true;
        *ret_partly = true;
        return WEIR_EIO;
    }
    if (e->step == e->fail_at) {
        *ret_partly = true;
        return e->fail_status;
    }
    return 0;
}

static int failed(struct error *err, int status)
{
    return error_set(err, status, "injected: %s", error_name(status));
}

static struct inode *inode_of(struct env_file *file)
{
    return container_of(file, struct fault_file, base)->inode;
}

static int do_write(struct env_file *file, const void *buf, size_t n, uint64_t offset,
                    struct error *err)
{
    struct fault_env *e = of(file->env);
    struct inode *inode = inode_of(file);
    bool partly;
    int rc = step(e, &partly);
    if (rc != 0 && !partly) {
        return failed(err, rc);
    }
    size_t taken = rc == 0 || e->crashed ? n : n / 2;
    content_write(&inode->now, buf, taken, offset);
    change_add(inode, false, offset, buf, taken);
    return rc == 0 ? 0 : failed(err, rc);
}

static int do_sync(struct env_file *file, struct error *err)
{
    struct fault_env *e = of(file->env);
    struct inode *inode = inode_of(file);
    bool partly;
    int rc = step(e, &partly);
    if (rc == 0) {
        inode_sync(inode);
        return 0;
    }
    if (partly && !e->crashed) {
        list_free(&inode->changes, offsetof(struct change, link));
    }
    return failed(err, rc);
}

static int do_resize(struct env_file *file, uint64_t size, struct error *err)
{
    struct inode *inode = inode_of(file);
    bool partly;
    int rc = step(of(file->env), &partly);
    if (rc == 0 || (partly && of(file->env)->crashed)) {
        content_resize(&inode->now, size);
        change_add(inode, true, size, NULL, 0);
    }
    return rc == 0 ? 0 : failed(err, rc);
}

static int do_allocate(struct env_file *file, uint64_t size, struct error *err)
{
    struct fault_env *e = of(file->env);
    uint64_t have = inode_of(file)->now.size;
    if (size <= have) {
        return 0;
    }
    if (size - have > e->free_bytes) {
        return error_set(err, WEIR_ENOSPC, "reserve: disk full");
    }
    int rc = do_resize(file, size, err);
    e->free_bytes -= rc == 0 ? size - have : 0;
    return rc;
}

static int do_names_sync(struct fault_env *e, struct error *err)
{
    bool partly;
    int rc = step(e, &partly);
    if (rc != 0) {
        return failed(err, rc);
    }
    for (struct list *it; (it = list_pop(&e->name_changes)) != NULL;) {
        struct rename_op *op = list_entry(it, struct rename_op, link);
        name_set(&e->durable_names, op->path, op->inode);
        free(op);
    }
    return 0;
}

/* --- Operations --- */

static uint64_t op_now_ns(struct env *env)
{
    return of(env)->now_ns;
}

static int64_t op_wall_ms(struct env *env)
{
    return (int64_t)(of(env)->now_ns / 1000000);
}

static void op_random(struct env *env, void *buf, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((uint8_t *)buf)[i] = (uint8_t)(next_random(of(env)) >> 32);
    }
}

struct timer {
    struct list link;
    struct env_timer *owner;
    uint64_t due_ns;
};

static int op_timer_init(struct env *env, struct env_timer *timer)
{
    (void)env;
    struct timer *t = malloc(sizeof(*t)); /* may fail where a test makes malloc fail */
    if (t == NULL) {
        return WEIR_ENOMEM;
    }
    *t = (struct timer){.owner = timer};
    list_init(&t->link);
    timer->impl = t;
    return 0;
}

static void op_timer_start(struct env_timer *timer, uint64_t delay_us)
{
    struct timer *t = timer->impl;
    list_remove(&t->link);
    t->due_ns = of(timer->env)->now_ns + delay_us * 1000;
    list_push_back(&of(timer->env)->timers, &t->link);
}

static void op_timer_stop(struct env_timer *timer)
{
    list_remove(&((struct timer *)timer->impl)->link);
}

static void op_timer_close(struct env_timer *timer)
{
    op_timer_stop(timer);
    free(timer->impl);
}

static struct list *op_deferred(struct env *env)
{
    return &of(env)->deferred;
}

static int op_open(struct env *env, const char *path, int flags, struct env_file **ret_file,
                   struct error *err)
{
    struct fault_env *e = of(env);
    struct name *name = name_find(&e->names, path);
    if (name == NULL && (flags & ENV_OPEN_CREATE) == 0) {
        return error_set(err, WEIR_ENOTFOUND, "open %s: not found", path);
    }
    if (name != NULL && name->inode->locked && (flags & ENV_OPEN_LOCK) != 0) {
        return error_set(err, WEIR_EBUSY, "%s: in use by another process", path);
    }
    struct fault_file *f = malloc(sizeof(*f));
    if (f == NULL) {
        return error_set(err, WEIR_ENOMEM, "open %s: out of memory", path);
    }
    if (name == NULL) {
        bool partly;
        int rc = step(e, &partly);
        if (rc == 0 || (partly && e->crashed)) {
            name_change(e, path, inode_new(e));
        }
        if (rc != 0) {
            free(f);
            return failed(err, rc);
        }
        name = name_find(&e->names, path);
    }
    *f = (struct fault_file){.base = {env}, .inode = name->inode, .lock = flags & ENV_OPEN_LOCK};
    f->inode->opens++;
    f->inode->locked = f->inode->locked || f->lock;
    *ret_file = &f->base;
    return 0;
}

static void op_close(struct env_file *file)
{
    struct fault_file *f = container_of(file, struct fault_file, base);
    f->inode->opens--;
    f->inode->locked = f->inode->locked && !f->lock;
    free(f);
}

static int op_size(struct env_file *file, uint64_t *ret_size, struct error *err)
{
    (void)err;
    *ret_size = inode_of(file)->now.size;
    return 0;
}

static int op_pread(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n,
                    struct error *err)
{
    (void)err;
    const struct content *c = &inode_of(file)->now;
    size_t left = offset < c->size ? c->size - offset : 0;
    n = n < left ? n : left;
    if (n > 0) {
        memcpy(buf, c->data + offset, n);
    }
    *ret_n = n;
    return 0;
}

static int perform(struct fault_env *e, struct env_io *io)
{
    int rc = 0;
    uint64_t at = io->offset;
    switch ((enum env_io_kind)(uintptr_t)io->impl[0]) {
    case ENV_IO_WRITE:
        for (unsigned i = 0; i < io->n_iov && rc == 0; i++) {
            rc = do_write(io->file, io->iov[i].iov_base, io->iov[i].iov_len, at, NULL);
            at += io->iov[i].iov_len;
        }
        break;
    case ENV_IO_READ:
        for (unsigned i = 0; i < io->n_iov; i++) {
            size_t n;
            (void)op_pread(io->file, io->iov[i].iov_base, io->iov[i].iov_len, at, &n, NULL);
            io->n_bytes += n;
            at += n;
        }
        return 0;
    case ENV_IO_ALLOCATE:
        rc = do_allocate(io->file, io->offset, NULL);
        break;
    case ENV_IO_DIR_SYNC:
        return do_names_sync(e, NULL);
    case ENV_IO_PATH_SIZE:
        return WEIR_EINVAL; /* log/ never asks */
    }
    return rc == 0 && io->sync ? do_sync(io->file, NULL) : rc;
}

/* impl[1] is set once the request was carried out, by op_wait. */
static void op_io_start(struct env *env, struct env_file *file, const char *path, struct env_io *io,
                        enum env_io_kind kind)
{
    (void)file;
    (void)path;
    io->impl[0] = (void *)(uintptr_t)kind;
    io->impl[1] = NULL;
    list_push_back(&of(env)->ios, &io->link);
}

static void op_wait(struct env_file *file)
{
    struct fault_env *e = of(file->env);
    LIST_FOREACH(it, &e->ios)
    {
        struct env_io *io = list_entry(it, struct env_io, link);
        if (io->file == file && io->impl[1] == NULL) {
            io->status = perform(e, io);
            io->impl[1] = io;
        }
    }
}

static int op_dir_make(struct env *env, const char *path, struct error *err)
{
    (void)env;
    (void)path;
    (void)err;
    return 0;
}

static int op_dir_sync(struct env *env, const char *path, struct error *err)
{
    (void)path;
    return do_names_sync(of(env), err);
}

static int op_dir_list(struct env *env, const char *path, env_dir_cb cb, void *data,
                       struct error *err)
{
    (void)err;
    size_t n = strlen(path);
    int rc = 0;
    for (struct list *it = of(env)->names.next; rc == 0 && it != &of(env)->names; it = it->next) {
        const struct name *name = list_entry(it, struct name, link);
        if (strncmp(name->path, path, n) == 0 && name->path[n] == '/') {
            rc = cb(data, name->path + n + 1);
        }
    }
    return rc;
}

static int op_free_bytes(struct env *env, const char *path, uint64_t *ret_bytes, struct error *err)
{
    (void)path;
    (void)err;
    *ret_bytes = of(env)->free_bytes;
    return 0;
}

static int op_rename(struct env *env, const char *from, const char *to, struct error *err)
{
    struct fault_env *e = of(env);
    struct name *name = name_find(&e->names, from);
    bool partly;
    if (name == NULL) {
        return error_set(err, WEIR_ENOTFOUND, "rename %s: not found", from);
    }
    int rc = step(e, &partly);
    if (rc == 0 || (partly && e->crashed)) {
        /* One change in the journal: the new name and the loss of the old one come together. Both
         * are in the list in this order, so the worst crash leaves both names, which recovery must
         * bear. */
        name_change(e, to, name->inode);
        name_change(e, from, NULL);
    }
    return rc == 0 ? 0 : failed(err, rc);
}

static int op_unlink(struct env *env, const char *path, struct error *err)
{
    struct fault_env *e = of(env);
    bool partly;
    if (name_find(&e->names, path) == NULL) {
        return error_set(err, WEIR_ENOTFOUND, "remove %s: not found", path);
    }
    int rc = step(e, &partly);
    if (rc == 0 || (partly && e->crashed)) {
        name_change(e, path, NULL);
    }
    return rc == 0 ? 0 : failed(err, rc);
}

static const struct env_ops fault_ops = {
    .now_ns = op_now_ns,
    .wall_ms = op_wall_ms,
    .random = op_random,
    .timer_init = op_timer_init,
    .timer_start = op_timer_start,
    .timer_stop = op_timer_stop,
    .timer_close = op_timer_close,
    .deferred = op_deferred,
    .file_open = op_open,
    .file_close = op_close,
    .file_size = op_size,
    .file_pread = op_pread,
    .file_pwrite = do_write,
    .file_sync = do_sync,
    .file_truncate = do_resize,
    .file_allocate = do_allocate,
    .io_start = op_io_start,
    .file_wait = op_wait,
    .dir_make = op_dir_make,
    .dir_sync = op_dir_sync,
    .dir_list = op_dir_list,
    .dir_free_bytes = op_free_bytes,
    .rename = op_rename,
    .unlink = op_unlink,
};

/* --- Control --- */

struct env *fault_env_new(uint64_t seed)
{
    struct fault_env *e = must_alloc(sizeof(*e));
    e->base.ops = &fault_ops;
    e->random = seed * 0x9e3779b97f4a7c15U + 1;
    e->free_bytes = UINT64_MAX;
    struct list *lists[] = {&e->inodes,   &e->names, &e->durable_names, &e->name_changes,
                            &e->deferred, &e->ios,   &e->timers};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
    return &e->base;
}

static void wipe(struct fault_env *e)
{
    list_free(&e->names, offsetof(struct name, link));
    list_free(&e->durable_names, offsetof(struct name, link));
    list_free(&e->name_changes, offsetof(struct rename_op, link));
    for (struct list *it; (it = list_pop(&e->inodes)) != NULL;) {
        struct inode *inode = list_entry(it, struct inode, link);
        assert(inode->opens == 0);
        list_free(&inode->changes, offsetof(struct change, link));
        content_close(&inode->now);
        content_close(&inode->durable);
        free(inode);
    }
}

void fault_env_free(struct env *env)
{
    struct fault_env *e = of(env);
    assert(list_empty(&e->ios) && list_empty(&e->timers));
    wipe(e);
    free(e);
}

void fault_env_run(struct env *env)
{
    struct fault_env *e = of(env);
    while (!list_empty(&e->deferred) || !list_empty(&e->ios)) {
        env_run_deferred(&e->deferred);
        struct list *it = list_pop(&e->ios);
        if (it != NULL) {
            struct env_io *io = list_entry(it, struct env_io, link);
            if (io->impl[1] == NULL) {
                io->status = perform(e, io);
            }
            io->cb(io, io->status);
        }
    }
}

void fault_env_advance(struct env *env, uint64_t us)
{
    struct fault_env *e = of(env);
    uint64_t end = e->now_ns + us * 1000;
    for (;;) {
        struct timer *first = NULL;
        fault_env_run(env);
        LIST_FOREACH(it, &e->timers)
        {
            struct timer *t = list_entry(it, struct timer, link);
            first = first == NULL || t->due_ns < first->due_ns ? t : first;
        }
        if (first == NULL || first->due_ns > end) {
            break;
        }
        e->now_ns = first->due_ns > e->now_ns ? first->due_ns : e->now_ns;
        list_remove(&first->link);
        first->owner->cb(first->owner);
    }
    e->now_ns = end;
}

unsigned fault_env_steps(const struct env *env)
{
    return of(env)->step;
}

void fault_env_crash_at(struct env *env, unsigned n)
{
    of(env)->crash_at = n;
}

bool fault_env_crashed(const struct env *env)
{
    return of(env)->crashed;
}

void fault_env_fail_at(struct env *env, unsigned n, int status)
{
    of(env)->fail_at = n;
    of(env)->fail_status = status;
}

void fault_env_set_free(struct env *env, uint64_t bytes)
{
    of(env)->free_bytes = bytes;
}

/* Of an unsynced write, each sector is on the disk or not. */
static void tear_write(struct fault_env *e, struct inode *inode, const struct change *c)
{
    uint64_t at = c->at, end = c->at + c->n;
    while (at < end) {
        uint64_t stop = (at / SECTOR + 1) * SECTOR;
        stop = stop < end ? stop : end;
        if (next_random(e) >> 63 != 0) {
            content_write(&inode->durable, c->data + (at - c->at), stop - at, at);
        }
        at = stop;
    }
}

static void tear_inode(struct fault_env *e, struct inode *inode)
{
    bool sizes = true; /* sizes are changed in the journal's order */
    LIST_FOREACH(it, &inode->changes)
    {
        const struct change *c = list_entry(it, struct change, link);
        if (!c->resize) {
            tear_write(e, inode, c);
        } else if (sizes && (sizes = next_random(e) >> 63 != 0)) {
            content_resize(&inode->durable, c->at);
        }
    }
}

void fault_env_restart(struct env *env, enum fault_restart how)
{
    struct fault_env *e = of(env);
    assert(list_empty(&e->ios) && list_empty(&e->deferred));
    e->crashed = false;
    e->crash_at = e->fail_at = 0;
    if (how == FAULT_KILL) {
        return; /* the kernel lives, with all it still has to write */
    }
    while (how == FAULT_TEAR && !list_empty(&e->name_changes) && next_random(e) >> 62 != 0) {
        struct rename_op *op = list_entry(list_pop(&e->name_changes), struct rename_op, link);
        name_set(&e->durable_names, op->path, op->inode);
        free(op);
    }
    list_free(&e->name_changes, offsetof(struct rename_op, link));
    list_free(&e->names, offsetof(struct name, link));
    LIST_FOREACH(it, &e->durable_names)
    {
        struct name *n = list_entry(it, struct name, link);
        name_set(&e->names, n->path, n->inode);
    }
    LIST_FOREACH(it, &e->inodes)
    {
        struct inode *inode = list_entry(it, struct inode, link);
        if (how == FAULT_TEAR) {
            tear_inode(e, inode);
        }
        list_free(&inode->changes, offsetof(struct change, link));
        content_copy(&inode->now, &inode->durable);
    }
}

uint8_t *fault_env_data(struct env *env, const char *path, size_t *ret_size)
{
    struct name *n = name_find(&of(env)->names, path);
    if (n == NULL) {
        return NULL;
    }
    *ret_size = n->inode->now.size;
    return n->inode->now.data;
}

void fault_env_resize(struct env *env, const char *path, size_t size)
{
    struct name *n = name_find(&of(env)->names, path);
    content_resize(&n->inode->now, size);
}

void fault_env_remove(struct env *env, const char *path)
{
    name_set(&of(env)->names, path, NULL);
    name_set(&of(env)->durable_names, path, NULL);
}

/* --- Images --- */

struct image_file {
    struct list link;
    struct content content;
    char path[];
};

struct fault_image {
    struct list files;
};

struct fault_image *fault_env_save(struct env *env)
{
    struct fault_image *image = must_alloc(sizeof(*image));
    list_init(&image->files);
    LIST_FOREACH(it, &of(env)->names)
    {
        struct name *n = list_entry(it, struct name, link);
        struct image_file *f = must_alloc(sizeof(*f) + strlen(n->path) + 1);
        memcpy(f->path, n->path, strlen(n->path) + 1);
        content_copy(&f->content, &n->inode->now);
        list_push_back(&image->files, &f->link);
    }
    return image;
}

void fault_env_restore(struct env *env, const struct fault_image *image)
{
    struct fault_env *e = of(env);
    wipe(e);
    LIST_FOREACH(it, &image->files)
    {
        struct image_file *f = list_entry(it, struct image_file, link);
        struct inode *inode = inode_new(e);
        content_copy(&inode->now, &f->content);
        content_copy(&inode->durable, &f->content);
        name_set(&e->names, f->path, inode);
        name_set(&e->durable_names, f->path, inode);
    }
    e->crashed = false;
    e->crash_at = e->fail_at = 0;
}

void fault_image_free(struct fault_image *image)
{
    for (struct list *it; (it = list_pop(&image->files)) != NULL;) {
        struct image_file *f = list_entry(it, struct image_file, link);
        content_close(&f->content);
        free(f);
    }
    free(image);
}
