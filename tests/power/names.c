/* LD_PRELOAD for tests/e2e/power.test.mjs and jepsen's failures of power: writes down which names a
 * program makes, changes and removes, and when it syncs their folders, so that the test can take
 * back at a power failure what was not synced. A journalling file system makes names durable along
 * with other things; POSIX promises them only after fsync of the folder.
 *
 * WEIR_NAMES_LOG: where to. WEIR_NAMES_DIR: only what lies below it counts; files that lose their
 * last name are kept in its folder `kept`. Lines, numbered from 1: N create PATH N unlink PATH KEPT
 *     N rename FROM TO KEPT      (KEPT: what TO was, or -)
 *     N sync FOLDER UPTO         (names up to line UPTO)                     */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES (4 * PATH_MAX)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *dir;
static size_t dir_len;
static unsigned long n_lines;

#define NEXT(name) ((__typeof__(name) *)(uintptr_t)dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("WEIR_NAMES_LOG");
    dir = getenv("WEIR_NAMES_DIR");
    if (path != NULL && dir != NULL) {
        dir_len = strlen(dir);
        log_fd = NEXT(open)(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        (void)unsetenv("WEIR_NAMES_LOG"); /* the program's children write nothing down */
    }
}

static bool counts(const char *path)
{
    return log_fd >= 0 && strncmp(path, dir, dir_len) == 0 && path[dir_len] == '/';
}

/* Lock held. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    va_list args;
    int n = snprintf(line, sizeof(line), "%lu ", ++n_lines);
    va_start(args, format);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n, format, args);
    va_end(args);
    ssize_t rc = write(log_fd, line, (size_t)n);
    (void)rc;
}

/* A second name for what `path` names; "-" when there is nothing. Lock held. */
static void keep(const char *path, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%s/kept/%d.%lu", dir, (int)getpid(), n_lines + 1);
    if (link(path, out) != 0) {
        (void)snprintf(out, PATH_MAX, "-");
    }
}

static int open_counted(const char *path, int flags, mode_t mode)
{
    pthread_mutex_lock(&lock);
    bool is_new = access(path, F_OK) != 0;
    int fd = NEXT(open)(path, flags, mode);
    if (fd >= 0 && is_new) {
        say("create %s\n", path);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    if ((flags & O_CREAT) != 0 && counts(path)) {
        return open_counted(path, flags, mode);
    }
    return NEXT(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open(path, flags, mode);
}

int mkdir(const char *path, mode_t mode)
{
    if (!counts(path)) {
        return NEXT(mkdir)(path, mode);
    }
    pthread_mutex_lock(&lock);
    int rc = NEXT(mkdir)(path, mode), saved = errno;
    if (rc == 0) {
        say("create %s\n", path);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return rc;
}

int unlink(const char *path)
{
    char kept[PATH_MAX];
    if (!counts(path)) {
        return NEXT(unlink)(path);
    }
    pthread_mutex_lock(&lock);
    keep(path, kept);
    int rc = NEXT(unlink)(path), saved = errno;
    if (rc == 0) {
        say("unlink %s %s\n", path, kept);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return rc;
}

int rename(const char *from, const char *to)
{
    char kept[PATH_MAX];
    if (!counts(to)) {
        return NEXT(rename)(from, to);
    }
    pthread_mutex_lock(&lock);
    keep(to, kept);
    int rc = NEXT(rename)(from, to), saved = errno;
    if (rc == 0) {
        say("rename %s %s %s\n", from, to, kept);
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return rc;
}

int fsync(int fd)
{
    char link_path[64], path[PATH_MAX];
    struct stat st;
    pthread_mutex_lock(&lock);
    unsigned long before = n_lines;
    pthread_mutex_unlock(&lock);
    int rc = NEXT(fsync)(fd), saved = errno;
    (void)snprintf(link_path, sizeof(link_path), "/proc/self/fd/%d", fd);
    ssize_t n = log_fd >= 0 ? readlink(link_path, path, sizeof(path) - 1) : -1;
    if (rc == 0 && n > 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        path[n] = '\0';
        pthread_mutex_lock(&lock);
        if (strncmp(path, dir, dir_len) == 0) {
            say("sync %s %lu\n", path, before);
        }
        pthread_mutex_unlock(&lock);
    }
    errno = saved;
    return rc;
}
