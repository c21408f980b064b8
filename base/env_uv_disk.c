#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/env_uv_priv.h"

#define FILE_MODE 0640
#define DIR_MODE  0750

static int fd_of(struct env_file *file)
{
    return container_of(file, struct env_uv_file, base)->fd;
}

static void changed(struct env_file *file)
{
    direct_forget(container_of(file, struct env_uv_file, base)->direct);
}

static int open_flags(int flags)
{
    int f = O_CLOEXEC | ((flags & ENV_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY);
    f |= (flags & ENV_OPEN_CREATE) != 0 ? O_CREAT : 0;
    f |= (flags & ENV_OPEN_EXCL) != 0 ? O_EXCL : 0;
    return f;
}

/* Errors about names have codes of their own. */
static int name_error(struct error *err, const char *what, const char *path)
{
    if (errno == ENOENT) {
        return error_set(err, WEIR_ENOTFOUND, "%s %s: not found", what, path);
    }
    if (errno == EEXIST) {
        return error_set(err, WEIR_EEXISTS, "%s %s: already exists", what, path);
    }
    return error_errno(err, "%s %s", what, path);
}

int disk_open(struct env *env, const char *path, int flags, struct env_file **ret_file,
              struct error *err)
{
    struct env_uv_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return error_set(err, WEIR_ENOMEM, "open %s: out of memory", path);
    }
    file->fd = open(path, open_flags(flags), FILE_MODE);
    if (file->fd < 0) {
        int rc = name_error(err, "open", path);
        free(file);
        return rc;
    }
    if ((flags & ENV_OPEN_LOCK) != 0 && flock(file->fd, LOCK_EX | LOCK_NB) != 0) {
        int rc = errno == EWOULDBLOCK
                     ? error_set(err, WEIR_EBUSY, "%s: in use by another process", path)
                     : error_errno(err, "lock %s", path);
        (void)close(file->fd);
        free(file);
        return rc;
    }
    file->direct = (flags & ENV_OPEN_APPEND) != 0 ? direct_new(file->fd) : NULL;
    file->base.env = env;
    list_init(&file->queue);
    list_init(&file->ready);
    *ret_file = &file->base;
    return 0;
}

void disk_close(struct env_file *file)
{
    struct env_uv_file *f = container_of(file, struct env_uv_file, base);
    assert(!f->running && list_empty(&f->queue));
    direct_free(f->direct);
    (void)close(f->fd);
    free(f);
}

int disk_size(struct env_file *file, uint64_t *ret_size, struct error *err)
{
    struct stat st;
    if (fstat(fd_of(file), &st) != 0) {
        return error_errno(err, "stat");
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int disk_pread(struct env_file *file, void *buf, size_t n, uint64_t offset, size_t *ret_n,
               struct error *err)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = pread(fd_of(file), (uint8_t *)buf + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return error_errno(err, "read");
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    *ret_n = done;
    return 0;
}

int disk_pwrite(struct env_file *file, const void *buf, size_t n, uint64_t offset,
                struct error *err)
{
    size_t done = 0;
    changed(file);
    while (done < n) {
        ssize_t put =
            pwrite(fd_of(file), (const uint8_t *)buf + done, n - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return error_errno(err, "write");
        }
        done += (size_t)put;
    }
    return 0;
}

int disk_sync(struct env_file *file, struct error *err)
{
    /* Not repeated on EINTR or any other failure: the kernel may have dropped the dirty pages. */
    if (fdatasync(fd_of(file)) != 0) {
        return error_errno(err, "fdatasync");
    }
    return 0;
}

int disk_truncate(struct env_file *file, uint64_t size, struct error *err)
{
    changed(file);
    if (ftruncate(fd_of(file), (off_t)size) != 0) {
        return error_errno(err, "truncate to %llu", (unsigned long long)size);
    }
    return 0;
}

int disk_allocate(struct env_file *file, uint64_t size, struct error *err)
{
    int rc;
    changed(file);
    do {
        rc = posix_fallocate(fd_of(file), 0, (off_t)size);
    } while (rc == EINTR);
    if (rc != 0) {
        errno = rc;
        return error_errno(err, "reserve %llu bytes", (unsigned long long)size);
    }
    return 0;
}

int disk_dir_sync(struct env *env, const char *path, struct error *err)
{
    (void)env;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return name_error(err, "open", path);
    }
    int rc = fsync(fd) == 0 ? 0 : error_errno(err, "fsync %s", path);
    (void)close(fd);
    return rc;
}

/* Makes one folder whose parent exists, and makes its name durable. */
static int make_one(struct env *env, const char *path, struct error *err)
{
    if (mkdir(path, DIR_MODE) != 0) {
        struct stat st;
        if (errno != EEXIST) {
            return name_error(err, "make folder", path);
        }
        if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
            return error_set(err, WEIR_EEXISTS, "make folder %s: a file is in the way", path);
        }
        return 0;
    }
    char parent[PATH_MAX];
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] != '/') {
        n--;
    }
    memcpy(parent, path, n);
    parent[n] = '\0';
    return disk_dir_sync(env, n == 0 ? "." : parent, err);
}

int disk_dir_make(struct env *env, const char *path, struct error *err)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    if (n == 0 || n >= sizeof(part)) {
        return error_set(err, WEIR_EINVAL, "make folder: the path is empty or too long");
    }
    for (size_t i = 1; i <= n; i++) {
        if (i < n && path[i] != '/') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        int rc = make_one(env, part, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int skip_dots(const struct dirent *d)
{
    return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int disk_dir_list(struct env *env, const char *path, env_dir_cb cb, void *data, struct error *err)
{
    (void)env;
    struct dirent **names;
    int n = scandir(path, &names, skip_dots, by_bytes);
    if (n < 0) {
        return name_error(err, "list", path);
    }
    int rc = 0;
    for (int i = 0; i < n; i++) {
        if (rc == 0) {
            rc = cb(data, names[i]->d_name);
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

int disk_dir_free_bytes(struct env *env, const char *path, uint64_t *ret_bytes, struct error *err)
{
    (void)env;
    struct statvfs st;
    if (statvfs(path, &st) != 0) {
        return name_error(err, "statvfs", path);
    }
    *ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

int disk_rename(struct env *env, const char *from, const char *to, struct error *err)
{
    (void)env;
    return rename(from, to) == 0 ? 0 : name_error(err, "rename", from);
}

int disk_unlink(struct env *env, const char *path, struct error *err)
{
    (void)env;
    return unlink(path) == 0 ? 0 : name_error(err, "remove", path);
}

/* --- On an io thread --- */

/* Moves *iov past n bytes that are done. */
static void iov_advance(struct iovec *iov, unsigned *n_iov, size_t n)
{
    unsigned i = 0;
    while (i < *n_iov && n >= iov[i].iov_len) {
        n -= iov[i].iov_len;
        i++;
    }
    *n_iov -= i;
    memmove(iov, iov + i, *n_iov * sizeof(*iov));
    if (*n_iov > 0) {
        iov[0].iov_base = (uint8_t *)iov[0].iov_base + n;
        iov[0].iov_len -= n;
    }
}

/* The whole vector, in either direction, through short counts; *ret_n is less only at the end of a
 * file. */
static int transfer(int fd, const struct env_io *io, bool writing, size_t *ret_n)
{
    struct iovec iov[64];
    unsigned used = 0, n = 0;
    uint64_t offset = io->offset;
    *ret_n = 0;
    while (used < io->n_iov || n > 0) {
        while (used < io->n_iov && n < sizeof(iov) / sizeof(iov[0])) {
            iov[n++] = io->iov[used++];
        }
        ssize_t done = writing ? pwritev(fd, iov, (int)n, (off_t)offset)
                               : preadv(fd, iov, (int)n, (off_t)offset);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return error_from_errno(errno);
        }
        size_t asked = 0;
        for (unsigned i = 0; i < n; i++) {
            asked += iov[i].iov_len;
        }
        if (done == 0 && asked > 0) {
            return writing ? WEIR_EIO : 0;
        }
        *ret_n += (size_t)done;
        offset += (uint64_t)done;
        iov_advance(iov, &n, (size_t)done);
    }
    return 0;
}

static int path_size(const char *path, uint64_t *ret_size)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return name_error(NULL, "stat", path);
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int disk_perform(struct env_uv_file *file, struct env_io *io)
{
    size_t n = 0;
    int rc = 0;
    switch ((enum env_io_kind)(uintptr_t)io->impl[0]) {
    case ENV_IO_WRITE:
        if (file->direct == NULL || !direct_write(file->direct, io, &rc)) {
            rc = transfer(file->fd, io, true, &n);
        }
        break;
    case ENV_IO_READ:
        rc = transfer(file->fd, io, false, &n);
        io->n_bytes = n;
        return rc;
    case ENV_IO_ALLOCATE:
        rc = disk_allocate(&file->base, io->offset, NULL);
        break;
    case ENV_IO_DIR_SYNC:
        return disk_dir_sync(file->base.env, io->impl[1], NULL);
    case ENV_IO_PATH_SIZE:
        return path_size(io->impl[1], &io->offset);
    }
    return rc == 0 && io->sync ? disk_sync(&file->base, NULL) : rc;
}
