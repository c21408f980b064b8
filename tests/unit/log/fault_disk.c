#include "fault_disk.h"

#include <stdlib.h>
#include <string.h>

void *must_alloc(size_t n)
{
    /* Twice: where a test makes one allocation fail, that of the code under test is meant. */
    void *p = calloc(1, n);
    p = p != NULL ? p : calloc(1, n);
    if (p == NULL) {
        abort();
    }
    return p;
}

/* --- Contents --- */

void content_resize(struct content *c, size_t size)
{
    uint8_t *data = realloc(c->data, size + 1);
    data = data != NULL ? data : realloc(c->data, size + 1);
    if (data == NULL) {
        abort();
    }
    c->data = data;
    if (size > c->size) {
        memset(c->data + c->size, 0, size - c->size);
    }
    c->size = size;
}

void content_write(struct content *c, const void *data, size_t n, uint64_t at)
{
    if (at + n > c->size) {
        content_resize(c, at + n);
    }
    memcpy(c->data + at, data, n);
}

void content_copy(struct content *to, const struct content *from)
{
    content_resize(to, from->size);
    if (from->size > 0) {
        memcpy(to->data, from->data, from->size);
    }
}

void content_close(struct content *c)
{
    free(c->data);
    *c = (struct content){0};
}

void list_free(struct list *head, size_t link_at)
{
    for (struct list *it; (it = list_pop(head)) != NULL;) {
        free((char *)it - link_at);
    }
}

void change_add(struct inode *inode, bool resize, uint64_t at, const void *data, size_t n)
{
    struct change *c = must_alloc(sizeof(*c) + n);
    c->resize = resize;
    c->at = at;
    c->n = n;
    if (n > 0) {
        memcpy(c->data, data, n);
    }
    list_push_back(&inode->changes, &c->link);
}

static void change_apply(struct content *to, const struct change *c)
{
    if (c->resize) {
        content_resize(to, c->at);
    } else {
        content_write(to, c->data, c->n, c->at);
    }
}

void inode_sync(struct inode *inode)
{
    LIST_FOREACH(it, &inode->changes)
    {
        change_apply(&inode->durable, list_entry(it, struct change, link));
    }
    list_free(&inode->changes, offsetof(struct change, link));
}

/* --- Names --- */

struct name *name_find(struct list *names, const char *path)
{
    LIST_FOREACH(it, names)
    {
        struct name *n = list_entry(it, struct name, link);
        if (strcmp(n->path, path) == 0) {
            return n;
        }
    }
    return NULL;
}

void name_set(struct list *names, const char *path, struct inode *inode)
{
    struct name *n = name_find(names, path);
    if (n != NULL) {
        n->inode = inode;
        if (inode == NULL) {
            list_remove(&n->link);
            free(n);
        }
        return;
    }
    if (inode == NULL) {
        return;
    }
    n = must_alloc(sizeof(*n) + strlen(path) + 1);
    memcpy(n->path, path, strlen(path) + 1);
    n->inode = inode;
    struct list *at = names->next;
    while (at != names && strcmp(list_entry(at, struct name, link)->path, path) < 0) {
        at = at->next;
    }
    list_push_back(at, &n->link); /* before `at` */
}
