#include "base/env_uv_aio.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
/* Buffers begin with this much. */
#define ROOM_MIN (32u << 10)

struct aio {
    aio_context_t context;
    int fd; /* eventfd */
    struct list free;
    struct aio_slot slots[AIO_SLOTS];
};

struct aio *aio_new(void)
{
    struct aio *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    a->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (a->fd < 0 || syscall(SYS_io_setup, AIO_SLOTS, &a->context) != 0) {
        if (a->fd >= 0) {
            (void)close(a->fd);
        }
        free(a);
        return NULL;
    }
    list_init(&a->free);
    for (unsigned i = 0; i < AIO_SLOTS; i++) {
        list_push_back(&a->free, &a->slots[i].link);
    }
    return a;
}

void aio_free(struct aio *a)
{
    if (a == NULL) {
        return;
    }
    (void)syscall(SYS_io_destroy, a->context);
    (void)close(a->fd);
    for (unsigned i = 0; i < AIO_SLOTS; i++) {
        free(a->slots[i].buffer);
    }
    free(a);
}

int aio_fd(const struct aio *a)
{
    return a->fd;
}

struct aio_slot *aio_take(struct aio *a, size_t n)
{
    struct list *el = list_pop(&a->free);
    if (el == NULL) {
        return NULL;
    }
    struct aio_slot *slot = list_entry(el, struct aio_slot, link);
    size_t need = n + (size_t)2 * BLOCK; /* the first and the last block may be others' as well */
    if (slot->room < need) {
        size_t room = ROOM_MIN;
        while (room < need) {
            room *= 2;
        }
        free(slot->buffer);
        slot->room = room;
        if (posix_memalign((void **)&slot->buffer, BLOCK, room) != 0) {
            slot->buffer = NULL;
            slot->room = 0;
            aio_give(a, slot);
            return NULL;
        }
    }
    return slot;
}

void aio_give(struct aio *a, struct aio_slot *slot)
{
    list_push_front(&a->free, &slot->link); /* the warm one first */
}

void aio_aim(struct aio *a, struct aio_slot *slot, int fd, unsigned n_iov, uint64_t offset)
{
    slot->n_bytes = slot->iov[0].iov_len + (n_iov > 1 ? slot->iov[1].iov_len : 0);
    slot->iocb = (struct iocb){
        .aio_data = (uint64_t)(uintptr_t)slot,
        .aio_lio_opcode = IOCB_CMD_PWRITEV,
        .aio_rw_flags = RWF_DSYNC,
        .aio_fildes = (uint32_t)fd,
        .aio_buf = (uint64_t)(uintptr_t)slot->iov,
        .aio_nbytes = n_iov,
        .aio_offset = (int64_t)offset,
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)a->fd,
    };
}

unsigned aio_submit(struct aio *a, struct aio_slot *const slots[], unsigned n)
{
    struct iocb *iocbs[AIO_SLOTS];
    unsigned done = 0;
    for (unsigned i = 0; i < n; i++) {
        iocbs[i] = &slots[i]->iocb;
    }
    while (done < n) {
        long rc = syscall(SYS_io_submit, a->context, (long)(n - done), iocbs + done);
        if (rc < 0 && errno == EINTR) {
            continue;
        }
        if (rc <= 0) {
            break;
        }
        done += (unsigned)rc;
    }
    return done;
}

unsigned aio_reap(struct aio *a, struct aio_done ret_done[AIO_SLOTS])
{
    struct io_event events[AIO_SLOTS];
    struct timespec none = {0};
    uint64_t count;
    long n;
    /* First: what completes from here on makes it readable again. */
    ssize_t drained = read(a->fd, &count, sizeof(count));
    (void)drained;
    do {
        n = syscall(SYS_io_getevents, a->context, 0L, (long)AIO_SLOTS, events, &none);
    } while (n < 0 && errno == EINTR);
    for (long i = 0; i < n; i++) {
        ret_done[i] = (struct aio_done){.slot = (struct aio_slot *)(uintptr_t)events[i].data,
                                        .result = events[i].res};
    }
    return n > 0 ? (unsigned)n : 0;
}

void aio_wait(struct aio *a)
{
    struct pollfd fd = {.fd = a->fd, .events = POLLIN};
    (void)poll(&fd, 1, -1); /* interrupted: the caller looks again */
}

void aio_wake(struct aio *a)
{
    uint64_t one = 1;
    ssize_t n = write(a->fd, &one, sizeof(one));
    (void)n; /* full: readable anyway */
}
