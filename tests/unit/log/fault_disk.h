/* Contents and names of fault_env's disk. Used by fault_env.c only. */
#ifndef TESTS_UNIT_LOG_FAULT_DISK_H
#define TESTS_UNIT_LOG_FAULT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct content {
    uint8_t *data;
    size_t size;
};

/* One unsynced change of a file. */
struct change {
    struct list link;
    bool resize; /* to `at`; else a write of n bytes at `at` */
    uint64_t at;
    size_t n;
    uint8_t data[];
};

struct inode {
    struct list link;
    unsigned names, opens;
    bool locked;
    struct content now, durable;
    struct list changes;
};

struct name {
    struct list link;
    struct inode *inode;
    char path[];
};

/* One unsynced change of the names: path is made to mean inode, or nothing (NULL). */
struct rename_op {
    struct list link;
    struct inode *inode;
    char path[];
};

/* Test support: running out of memory here is not a case but the end. */
/* Zeroed. */
void *must_alloc(size_t n);

void content_resize(struct content *c, size_t size);
void content_write(struct content *c, const void *data, size_t n, uint64_t at);
void content_copy(struct content *to, const struct content *from);
void content_close(struct content *c);
/* Frees all elements; the link is at byte link_at of each. */
void list_free(struct list *head, size_t link_at);
void change_add(struct inode *inode, bool resize, uint64_t at, const void *data, size_t n);
/* Makes all changes durable. */
void inode_sync(struct inode *inode);
struct name *name_find(struct list *names, const char *path);
/* inode NULL: the name goes. Keeps the list in byte order. */
void name_set(struct list *names, const char *path, struct inode *inode);

#endif
