#include "base/env_uv_direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK        4096u
#define BOUNCE_BYTES (1u << 20)
#define ZERO_BYTES   (256u << 10)
#define NOWHERE      UINT64_MAX

static const uint8_t zeros[ZERO_BYTES] __attribute__((aligned(BLOCK)));

struct direct {
    int fd;              /* the file's own */
    int direct_fd;       /* -1: not opened yet */
    bool refused;        /* by the file system */
    uint64_t size;       /* of the file; 0: to be looked up */
    uint64_t written_to; /* every block below it has been written by us; grows only */
    uint64_t block_at;   /* where the block below stands; NOWHERE: not known */
    uint8_t *block;      /* the last one written: what the next write begins with */
};

struct direct *direct_new(int fd)
{
    struct direct *d = calloc(1, sizeof(*d));
    if (d != NULL) {
        *d = (struct direct){.fd = fd, .direct_fd = -1, .block_at = NOWHERE};
    }
    return d;
}

void direct_free(struct direct *d)
{
    if (d != NULL) {
        if (d->direct_fd >= 0) {
            (void)close(d->direct_fd);
        }
        free(d->block);
        free(d);
    }
}

void direct_forget(struct direct *d)
{
    if (d != NULL) {
        d->block_at = NOWHERE;
        d->written_to = d->size = 0;
    }
}

/* Opened with the first write: most files of a node with many partitions never see one. */
static bool ready(struct direct *d)
{
    char path[64];
    struct stat st;
    if (d->refused) {
        return false;
    }
    if (d->block == NULL && posix_memalign((void **)&d->block, BLOCK, BLOCK) != 0) {
        d->block = NULL;
        return false;
    }
    if (d->direct_fd < 0) {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", d->fd);
        d->direct_fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
        d->refused = d->direct_fd < 0;
    }
    if (d->size == 0 && fstat(d->fd, &st) == 0) {
        d->size = (uint64_t)st.st_size;
    }
    return !d->refused;
}

static __thread uint8_t *buffer; /* one a thread */

void direct_thread_end(void)
{
    free(buffer);
    buffer = NULL;
}

static uint8_t *bounce_buffer(void)
{
    if (buffer == NULL && posix_memalign((void **)&buffer, BLOCK, BOUNCE_BYTES) != 0) {
        buffer = NULL;
    }
    return buffer;
}

/* Where in a request's memory we are. */
struct source {
    const struct iovec *iov;
    unsigned n;
    size_t at; /* in iov[0] */
};

static size_t source_take(struct source *s, uint8_t *out, size_t room)
{
    size_t done = 0;
    while (s->n > 0 && done < room) {
        size_t left = s->iov->iov_len - s->at, n = left < room - done ? left : room - done;
        memcpy(out + done, (const uint8_t *)s->iov->iov_base + s->at, n);
        done += n;
        s->at += n;
        if (s->at == s->iov->iov_len) {
            s->iov++;
            s->n--;
            s->at = 0;
        }
    }
    return done;
}

/* What stands in front of `offset` in its block. */
static int head_read(struct direct *d, uint64_t offset, uint8_t *out)
{
    size_t want = offset % BLOCK, done = 0;
    uint64_t at = offset - want;
    if (d->block_at == at) {
        memcpy(out, d->block, want);
        return 0;
    }
    while (done < want) {
        ssize_t n = pread(d->fd, out + done, want - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? error_from_errno(errno) : WEIR_EIO;
        }
        done += (size_t)n;
    }
    return 0;
}

static int put(struct direct *d, const uint8_t *data, size_t n, size_t n_zeros, uint64_t at)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)data, n}, {(void *)(uintptr_t)zeros, n_zeros}};
    size_t done = 0;
    while (done < n + n_zeros) {
        size_t skip = done < n ? done : n;
        struct iovec rest[2] = {
            {(uint8_t *)iov[0].iov_base + skip, n - skip},
            {(uint8_t *)iov[1].iov_base + (done - skip), n_zeros - (done - skip)}};
        unsigned first = rest[0].iov_len == 0;
        ssize_t rc = pwritev(d->direct_fd, rest + first, (int)(2 - first), (off_t)(at + done));
        if (rc < 0 && errno == EINTR) {
            continue;
        }
        if (rc < 0) {
            return error_from_errno(errno);
        }
        if (rc == 0 || (size_t)rc % BLOCK != 0) { /* what came after it would not be aligned */
            return WEIR_EIO;
        }
        done += (size_t)rc;
    }
    return 0;
}

/* Zeros to take along behind a write that ends (as blocks) at `end`. */
static size_t zeros_behind(struct direct *d, uint64_t end, size_t n)
{
    if (end <= d->written_to) {
        return 0;
    }
    uint64_t room = d->size > end ? (d->size - end) / BLOCK * BLOCK : 0;
    size_t want = n < ZERO_BYTES / 4 ? ZERO_BYTES : 0;
    want = want < room ? want : (size_t)room;
    d->written_to = end + want;
    return want;
}

bool direct_write(struct direct *d, const struct env_io *io, int *ret_status)
{
    struct source s = {.iov = io->iov, .n = io->n_iov};
    if (bounce_buffer() == NULL || !ready(d)) {
        return false;
    }
    size_t have = io->offset % BLOCK; /* in the buffer */
    uint64_t at = io->offset - have;
    int rc = have > 0 ? head_read(d, io->offset, buffer) : 0;
    d->block_at = NOWHERE;
    while (rc == 0) {
        size_t n = source_take(&s, buffer + have, BOUNCE_BYTES - have);
        if (n == 0) {
            break;
        }
        size_t end = have + n, whole = (end + BLOCK - 1) / BLOCK * BLOCK;
        memset(buffer + end, 0, whole - end);
        rc = put(d, buffer, whole, zeros_behind(d, at + whole, whole), at);
        if (rc != 0) {
            break;
        }
        if (end < whole) { /* the last piece: the next write goes on in this block */
            memcpy(d->block, buffer + whole - BLOCK, BLOCK);
            d->block_at = at + whole - BLOCK;
        }
        at += whole;
        have = 0;
    }
    if (rc != 0) {
        direct_forget(d);
    }
    *ret_status = rc;
    return true;
}
