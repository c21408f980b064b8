/* A machine's disk: contents, names, and what of both is durable.
 *
 * A write counts after a sync of its file, a name after a sync of its folder. What was not synced
 * survives a power loss in part: of writes each 512-byte sector by itself, of sizes and of a
 * folder's names a prefix, as journals of file systems give it. A sync that fails forgets what it
 * should have written, as Linux does: the page cache still shows it, a power loss takes it. */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define SECTOR 512u

struct change {
    struct list link;
    bool resize; /* to `at`; else n bytes at `at` */
    uint64_t at;
    size_t n;
    uint8_t data[];
};

struct name {
    struct inode *now, *durable; /* NULL: none */
    char path[];
};

struct name_change {
    struct list link;
    struct name *name;
    struct inode *inode;
};

void disk_init(struct disk *d, uint64_t capacity)
{
    *d = (struct disk){.capacity = capacity, .slow = 1};
    list_init(&d->inodes);
    list_init(&d->journal);
}

/* --- Contents --- */

static void content_resize(struct content *c, size_t size)
{
    if (size > c->room) {
        c->room = size < 2 * c->room ? 2 * c->room : size;
        c->data = realloc(c->data, c->room);
        if (c->data == NULL) {
            abort();
        }
    }
    if (size > c->size) {
        memset(c->data + c->size, 0, size - c->size);
    }
    c->size = size;
}

static void content_write(struct content *c, const void *data, size_t n, uint64_t at)
{
    if (at + n > c->size) {
        content_resize(c, at + n);
    }
    if (n > 0) {
        memcpy(c->data + at, data, n);
    }
}

struct inode *disk_inode_new(struct disk *d)
{
    struct inode *inode = sim_alloc(sizeof(*inode));
    list_init(&inode->changes);
    list_push_back(&d->inodes, &inode->link);
    return inode;
}

static struct change *change_add(struct inode *inode, bool resize, uint64_t at, size_t n)
{
    struct change *c = sim_alloc(sizeof(*c) + n);
    c->resize = resize;
    c->at = at;
    c->n = n;
    list_push_back(&inode->changes, &c->link);
    return c;
}

void inode_write(struct inode *inode, const void *data, size_t n, uint64_t at)
{
    content_write(&inode->now, data, n, at);
    struct change *c = change_add(inode, false, at, n);
    if (n > 0) {
        memcpy(c->data, data, n);
    }
}

void inode_resize(struct inode *inode, uint64_t size)
{
    content_resize(&inode->now, size);
    (void)change_add(inode, true, size, 0);
}

void inode_forget(struct inode *inode)
{
    for (struct list *it; (it = list_pop(&inode->changes)) != NULL;) {
        free(list_entry(it, struct change, link));
    }
}

void inode_sync(struct inode *inode)
{
    LIST_FOREACH(it, &inode->changes)
    {
        const struct change *c = list_entry(it, struct change, link);
        if (c->resize) {
            content_resize(&inode->durable, c->at);
        } else {
            content_write(&inode->durable, c->data, c->n, c->at);
        }
    }
    inode_forget(inode);
}

/* --- Names --- */

/* Where the path stands, or would. */
static size_t name_place(const struct disk *d, const char *path)
{
    size_t low = 0, high = d->n_names;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (strcmp(d->names[mid]->path, path) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct name *name_get(struct disk *d, const char *path, bool make)
{
    size_t at = name_place(d, path);
    if (at < d->n_names && strcmp(d->names[at]->path, path) == 0) {
        return d->names[at];
    }
    if (!make) {
        return NULL;
    }
    if (d->n_names == d->names_room) {
        d->names_room = d->names_room == 0 ? 64 : d->names_room * 2;
        d->names = realloc(d->names, d->names_room * sizeof(struct name *));
        if (d->names == NULL) {
            abort();
        }
    }
    struct name *n = sim_alloc(sizeof(*n) + strlen(path) + 1);
    memcpy(n->path, path, strlen(path) + 1);
    memmove(d->names + at + 1, d->names + at, (d->n_names - at) * sizeof(struct name *));
    d->names[at] = n;
    d->n_names++;
    return n;
}

struct inode *disk_find(struct disk *d, const char *path)
{
    struct name *n = name_get(d, path, false);
    return n != NULL ? n->now : NULL;
}

void disk_set_name(struct disk *d, const char *path, struct inode *inode)
{
    struct name *n = name_get(d, path, true);
    struct name_change *c = sim_alloc(sizeof(*c));
    n->now = inode;
    c->name = n;
    c->inode = inode;
    list_push_back(&d->journal, &c->link);
}

/* The part of a path behind its folder, if `dir` is that. */
static const char *name_in(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    if (strncmp(path, dir, n) != 0 || path[n] != '/' || strchr(path + n + 1, '/') != NULL) {
        return NULL;
    }
    return path + n + 1;
}

void disk_names_sync(struct disk *d, const char *dir)
{
    LIST_FOREACH_SAFE(it, nx, &d->journal)
    {
        struct name_change *c = list_entry(it, struct name_change, link);
        if (name_in(c->name->path, dir) != NULL) {
            c->name->durable = c->inode;
            list_remove(it);
            free(c);
        }
    }
}

int disk_walk(struct disk *d, const char *dir, disk_name_cb cb, void *data)
{
    int rv = 0;
    for (size_t i = name_place(d, dir); i < d->n_names && rv == 0; i++) {
        const struct name *n = d->names[i];
        const char *name = n->now != NULL ? name_in(n->path, dir) : NULL;
        if (strncmp(n->path, dir, strlen(dir)) != 0) {
            break;
        }
        rv = name != NULL ? cb(data, name) : 0;
    }
    return rv;
}

uint64_t disk_used(const struct disk *d)
{
    uint64_t used = 0;
    for (size_t i = 0; i < d->n_names; i++) {
        used += d->names[i]->now != NULL ? d->names[i]->now->now.size : 0;
    }
    return used;
}

/* --- Power --- */

/* Sector by sector: each has `of_16` chances in 16 to have arrived. */
static void tear_write(struct inode *inode, const struct change *c, unsigned of_16)
{
    for (uint64_t from = c->at, end = c->at + c->n; from < end;) {
        uint64_t to = (from / SECTOR + 1) * SECTOR;
        to = to < end ? to : end;
        if (sim_below(16) < of_16) {
            content_write(&inode->durable, c->data + (from - c->at), to - from, from);
        }
        from = to;
    }
}

static void tear_inode(struct inode *inode, unsigned of_16)
{
    bool sizes = true;
    LIST_FOREACH(it, &inode->changes)
    {
        const struct change *c = list_entry(it, struct change, link);
        if (!c->resize) {
            tear_write(inode, c, of_16);
        } else if (sizes && (sizes = sim_below(16) < of_16)) {
            content_resize(&inode->durable, c->at);
        }
    }
}

/* A prefix of what each folder's journal holds. The folders' order among each other is free. */
static void tear_names(struct disk *d, unsigned of_16)
{
    while (!list_empty(&d->journal)) {
        struct name_change *first = list_entry(d->journal.next, struct name_change, link);
        const char *slash = strrchr(first->name->path, '/');
        size_t n = (size_t)(slash - first->name->path);
        char *dir = sim_alloc(n + 1);
        bool lasting = true;
        memcpy(dir, first->name->path, n);
        LIST_FOREACH_SAFE(it, nx, &d->journal)
        {
            struct name_change *c = list_entry(it, struct name_change, link);
            if (name_in(c->name->path, dir) == NULL) {
                continue;
            }
            lasting = lasting && sim_below(16) < of_16;
            if (lasting) {
                c->name->durable = c->inode;
            }
            list_remove(it);
            free(c);
        }
        free(dir);
    }
}

void disk_power_loss(struct disk *d)
{
    static const unsigned chances[] = {0, 4, 12, 15, 16};
    unsigned of_16 = chances[sim_below(5)];
    tear_names(d, of_16);
    LIST_FOREACH(it, &d->inodes)
    {
        struct inode *inode = list_entry(it, struct inode, link);
        tear_inode(inode, of_16);
        inode_forget(inode);
        content_resize(&inode->now, 0);
        content_write(&inode->now, inode->durable.data, inode->durable.size, 0);
        inode->locked = false;
    }
    for (size_t i = 0; i < d->n_names; i++) {
        d->names[i]->now = d->names[i]->durable;
    }
}

/* --- Damage --- */

static struct name *any_name(struct disk *d)
{
    struct name *found = NULL;
    unsigned n = 0;
    for (size_t i = 0; i < d->n_names; i++) {
        struct name *name = d->names[i];
        if (name->now != NULL && name->now->now.size > 0 && sim_one_in(++n)) {
            found = name;
        }
    }
    return found;
}

/* What is on the platter and in the cache from now on. */
static void set_content(struct inode *inode, size_t size)
{
    inode_forget(inode);
    content_resize(&inode->now, size);
    content_resize(&inode->durable, 0);
    content_write(&inode->durable, inode->now.data, size, 0);
}

void disk_damage(struct disk *d)
{
    struct name *name = any_name(d);
    if (name == NULL) {
        return;
    }
    struct content *c = &name->now->now;
    uint64_t at = sim_below(c->size);
    switch (sim_below(8)) {
    case 0:
        sim_say("%s is cut to %llu bytes", name->path, (unsigned long long)at);
        set_content(name->now, at);
        break;
    case 1:
        sim_say("%s is removed", name->path);
        disk_set_name(d, name->path, NULL);
        name->durable = NULL;
        break;
    default:
        sim_say("%s: a bit of byte %llu flips", name->path, (unsigned long long)at);
        c->data[at] = (uint8_t)(c->data[at] ^ 1u << sim_below(8));
        set_content(name->now, c->size);
        break;
    }
}

void disk_wipe(struct disk *d)
{
    for (size_t i = 0; i < d->n_names; i++) {
        struct name *name = d->names[i];
        name->now = name->durable = NULL;
    }
    for (struct list *it; (it = list_pop(&d->journal)) != NULL;) {
        free(list_entry(it, struct name_change, link));
    }
}
