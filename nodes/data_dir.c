#include "nodes/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/logging.h"

#define PATH_SIZE   (CONFIG_PATH_MAX + 16)
#define NODE_FORMAT "weir-node 1\nid %u\nname %s\n"
#define SHARDS_KEY  "\nshards "

static int take_lock(const char *path, const char *dir, int *ret_fd, struct error *err)
{
    char pid[32] = "";
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
        return error_errno(err, "data folder: open %s", path);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int rv = 0;
        if (errno == EWOULDBLOCK) {
            ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
            pid[n > 0 ? n : 0] = '\0';
            pid[strcspn(pid, "\n")] = '\0';
            rv = error_set(err, WEIR_EEXISTS, "data folder %s is in use by process %s", dir,
                           pid[0] != '\0' ? pid : "(unknown)");
        } else {
            rv = error_errno(err, "data folder: lock %s", path);
        }
        (void)close(fd);
        return rv;
    }
    int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n) {
        int rv = error_errno(err, "data folder: write %s", path);
        (void)close(fd);
        return rv;
    }
    *ret_fd = fd;
    return 0;
}

static int write_node(struct env *env, const char *dir, const char *path, const char *text,
                      struct error *err)
{
    struct env_file *file = NULL;
    int rv = env_file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, err);
    if (rv == 0) {
        rv = env_file_pwrite(file, text, strlen(text), 0, err);
    }
    if (rv == 0) {
        rv = env_file_sync(file, err);
    }
    env_file_close(file);
    return rv != 0 ? rv : env_dir_sync(env, dir, err);
}

/* Where the log's files are depends on it: votes belong to a shard. */
static uint32_t shards_of(const struct config *config)
{
    return (config->roles & CONFIG_ROLE_LOG) != 0 && config->log_shards > 1 ? config->log_shards
                                                                            : 1;
}

/* What one flipped bit or a cut leaves of our own file, and nobody else's: another node differs in
 * id and in name, one made with other shards in what stands behind them. */
static bool is_own_damaged(const char *have, size_t n, const char *want, size_t own_len)
{
    size_t wrong = 0, len = strlen(want);
    if (n < len) {
        return n != own_len && memcmp(have, want, n) == 0;
    }
    for (size_t i = 0; n == len && i < own_len; i++) {
        wrong += have[i] != want[i];
    }
    return n == len && wrong == 1 && memcmp(have + own_len, want + own_len, n - own_len) == 0;
}

static int differs(const struct config *config, char *have, bool same_node, struct error *err)
{
    const struct config_node *self = config_self(config);
    const char *shards = strstr(have, SHARDS_KEY);
    unsigned long n = shards != NULL ? strtoul(shards + strlen(SHARDS_KEY), NULL, 10) : 1;
    if (n != shards_of(config) && same_node) {
        return error_set(err, WEIR_ECONFIG,
                         "log.shards: %u, but data folder %s was made with %lu, and that stays",
                         shards_of(config), config->data_dir, n);
    }
    for (char *p = have; *p != '\0'; p++) {
        *p = *p == '\n' ? ' ' : *p;
    }
    return error_set(err, WEIR_ECONFIG,
                     "data folder %s belongs to another node: its file node says '%.80s', "
                     "this node is id %u name %s (if the folder is this node's and that file is "
                     "damaged, remove the file)",
                     config->data_dir, have, self->id, self->name);
}

static int check_node(struct env *env, const struct config *config, struct error *err)
{
    const struct config_node *self = config_self(config);
    char path[PATH_SIZE], want[CONFIG_NAME_MAX + 64], have[256];
    struct env_file *file = NULL;
    size_t n = 0;
    (void)snprintf(path, sizeof(path), "%s/node", config->data_dir);
    int own_len = snprintf(want, sizeof(want), NODE_FORMAT, self->id, self->name);
    if (shards_of(config) > 1) {
        (void)snprintf(want + own_len - 1, sizeof(want) - (size_t)own_len, SHARDS_KEY "%u\n",
                       shards_of(config));
    }
    int rv = env_file_open(env, path, ENV_OPEN_READ, &file, err);
    if (rv == WEIR_ENOTFOUND) {
        return write_node(env, config->data_dir, path, want, err);
    }
    if (rv == 0) {
        rv = env_file_pread(file, have, sizeof(have) - 1, 0, &n, err);
        env_file_close(file);
    }
    if (rv != 0) {
        return rv;
    }
    if (n == 0) { /* the process was killed between making the file and writing it */
        return write_node(env, config->data_dir, path, want, err);
    }
    if (is_own_damaged(have, n, want, (size_t)own_len)) {
        log_warn("data_dir_mended", "file=%s what=\"damaged in one place: written anew\"", path);
        return write_node(env, config->data_dir, path, want, err);
    }
    have[n] = '\0';
    if (strcmp(have, want) == 0) {
        return 0;
    }
    return differs(config, have, strncmp(have, want, (size_t)own_len) == 0, err);
}

int data_dir_take(struct env *env, const struct config *config, int *ret_lock_fd, struct error *err)
{
    char path[PATH_SIZE];
    int fd = -1;
    int rv = env_dir_make(env, config->data_dir, err);
    if (rv != 0) {
        return rv;
    }
    (void)snprintf(path, sizeof(path), "%s/lock", config->data_dir);
    rv = take_lock(path, config->data_dir, &fd, err);
    if (rv == 0) {
        rv = check_node(env, config, err);
    }
    if (rv != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return rv;
    }
    *ret_lock_fd = fd;
    return 0;
}
