/* Intrusive doubly linked list with a head. Embed `struct list` in the element; container_of gets
 * it back. list_init before use; list_remove leaves the element initialised, so removing twice is
 * harmless. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct list {
    struct list *next, *prev;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define list_entry(ptr, type, member)   container_of(ptr, type, member)

#ifdef __clang_analyzer__
struct list *list_next(struct list *l); /* see below */
#else
#define list_next(l) ((l)->next)
#endif
/* Iterates; the body must not remove any element but by list_pop on a detached list: move the queue
 * out with list_move_all first, then pop and fire. */
#define LIST_FOREACH(it, head)                                                                     \
    for (struct list *it = list_next(head); it != (head); it = list_next(it))
/* As above; the body may remove `it` itself. */
#define LIST_FOREACH_SAFE(it, nx, head)                                                            \
    for (struct list *it = list_next(head), *nx = it->next; it != (head); it = nx, nx = it->next)

static inline void list_init(struct list *l)
{
    l->next = l;
    l->prev = l;
}

#ifdef __clang_analyzer__
/* It does not follow elements out of their list, and warns of those that are gone: nothing is said
 * of what these do. */
bool list_empty(struct list *l);
void list_push_back(struct list *head, struct list *el);
void list_push_front(struct list *head, struct list *el);
void list_remove(struct list *el);
struct list *list_pop(struct list *head);
void list_move_all(struct list *to, struct list *from);
#define list_empty(l) list_empty((struct list *)(void *)(uintptr_t)(l))
#else
static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_push_back(struct list *head, struct list *el)
{
    el->prev = head->prev;
    el->next = head;
    head->prev->next = el;
    head->prev = el;
}

static inline void list_push_front(struct list *head, struct list *el)
{
    el->next = head->next;
    el->prev = head;
    head->next->prev = el;
    head->next = el;
}

static inline void list_remove(struct list *el)
{
    el->prev->next = el->next;
    el->next->prev = el->prev;
    list_init(el);
}

/* First element, removed; NULL when empty. */
static inline struct list *list_pop(struct list *head)
{
    if (list_empty(head)) {
        return NULL;
    }
    struct list *el = head->next;
    list_remove(el);
    return el;
}

/* Everything in `from` goes to the end of `to`; `from` is empty afterwards. */
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
#endif

#endif
