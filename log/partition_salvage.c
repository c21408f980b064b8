/* What is done about damage that nothing bounds: see log/damage.h. The order: a copy for those who
 * want to look into it, then the metadata's mark, durably, then the log's mark, then the files. A
 * crash in between finds the replica known to be without promises, or finds the same damage. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_recover.h"

#define COPY_BYTES (1U << 20)

/* p->dir/damaged/NAME.MILLISECONDS */
static void damaged_path(struct partition *p, const char *name, char *out, size_t n)
{
    (void)snprintf(out, n, "%s/" DAMAGED_DIR "/%s.%" PRId64, p->dir, name, env_wall_ms(p->env));
}

static int copy_bytes(struct env_file *from, struct env_file *to, struct error *err)
{
    uint8_t *buf = malloc(COPY_BYTES);
    size_t n = COPY_BYTES;
    int rc = buf == NULL ? error_set(err, WEIR_ENOMEM, "copy: out of memory") : 0;
    for (uint64_t at = 0; rc == 0 && n == COPY_BYTES; at += n) {
        rc = env_file_pread(from, buf, COPY_BYTES, at, &n, err);
        bool zeros = n > 0 && buf[0] == 0 && memcmp(buf, buf + 1, n - 1) == 0;
        if (rc == 0 && n > 0 && !zeros) {
            rc = env_file_pwrite(to, buf, n, at, err);
        }
    }
    free(buf);
    return rc == 0 ? env_file_sync(to, err) : rc;
}

/* For those who look into it later: that it can't be made stops nothing. */
static void keep_copy(struct partition *p, const char *name, struct env_file *from)
{
    char path[sizeof(p->path) + 64];
    struct env_file *to = NULL;
    struct error err = {0};
    damaged_path(p, name, path, sizeof(path));
    int rc = env_file_open(p->env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &to, &err);
    if (rc == 0) {
        rc = copy_bytes(from, to, &err);
        env_file_close(to);
    }
    log_event(rc == 0 ? LOG_INFO : LOG_WARN, "log_damaged_file_kept", "path=" LOG_Q " error=" LOG_Q,
              path, rc == 0 ? "" : err.text);
}

static uint64_t last_term(struct partition *p)
{
    for (uint32_t i = p->n_segments; i-- > 0;) {
        const struct segment *seg = p->segments[i];
        if (segment_use(p, p->segments[i], NULL) == 0 && seg->index.n_runs > 0) {
            return seg->index.runs[seg->index.n_runs - 1].term;
        }
    }
    return 0;
}

static int salvage_meta(struct partition *p, const struct recovery *rec, struct error *err)
{
    struct meta *m = malloc(sizeof(*m));
    if (m == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: out of memory", p->dir);
    }
    uint64_t term = last_term(p), last = p->n_segments > 0 ? last_index_of(p) : 0;
    *m = p->meta;
    m->counter = (m->counter > p->mark.meta_counter ? m->counter : p->mark.meta_counter) + 1;
    m->recovering = true;
    m->term.v = term > m->term.v ? term : m->term.v;
    m->vote = rec->lost_meta ? 0 : m->vote;
    if (m->snapshot_index.v > last) {
        m->snapshot_index = m->snapshot_config_index = LOG_INDEX(0);
        m->snapshot_term = LOG_TERM(0);
        m->config_len = 0;
    }
    int rc = env_file_allocate(p->meta_file, META_FILE_SIZE, err);
    rc = rc == 0 ? meta_write(p, m, err) : rc;
    if (rc == 0) {
        p->meta = *m;
    }
    free(m);
    return rc;
}

struct unusable {
    uint64_t from;
    char (*names)[SEGMENT_NAME_SIZE];
    unsigned n;
};

static int on_unusable(void *data, const char *name)
{
    struct unusable *u = data;
    uint64_t first = segment_name_parse(name);
    if (first == 0 || first < u->from) {
        return 0;
    }
    void *names = realloc(u->names, (u->n + 1) * sizeof(u->names[0]));
    if (names == NULL) {
        return WEIR_ENOMEM;
    }
    u->names = names;
    memcpy(u->names[u->n++], name, SEGMENT_NAME_SIZE);
    return 0;
}

/* Files from which nothing could be read; the newest goes first, so that none stands behind a gap.
 */
static int move_unusable(struct partition *p, uint64_t from, struct error *err)
{
    struct unusable u = {.from = from};
    int rc = env_dir_list(p->env, p->dir, on_unusable, &u, err);
    while (rc == 0 && u.n > 0) {
        char to[sizeof(p->path) + 64];
        const char *name = u.names[--u.n];
        damaged_path(p, name, to, sizeof(to));
        rc = env_rename(p->env, partition_path(p, name), to, err);
        rc = rc == 0 ? env_dir_sync(p->env, p->dir, err) : rc;
    }
    free(u.names);
    return rc;
}

int partition_salvage(struct partition *p, const struct recovery *rec, struct error *err)
{
    char dir[sizeof(p->path)];
    memcpy(dir, partition_path(p, DAMAGED_DIR), sizeof(dir));
    int rc = env_dir_make(p->env, dir, err);
    if (rc != 0) {
        return rc;
    }
    if (rec->lost_meta) {
        keep_copy(p, "meta", p->meta_file);
    }
    if (rec->lost_end && p->n_segments > 0) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(partition_active(p)->first_index.v, name);
        keep_copy(p, name, partition_active(p)->file);
    }
    rc = salvage_meta(p, rec, err);
    if (rc == 0) {
        struct mark mark = {
            .synced = LOG_INDEX(p->n_segments > 0 ? rec->known : 0),
            .meta_counter = p->meta.counter,
        };
        rc = mark_write_now(p, &mark, err);
    }
    if (rc == 0 && rec->drop_from != 0) {
        rc = move_unusable(p, rec->drop_from, err);
    }
    if (rc == 0) {
        log_error("log_salvaged", "dir=" LOG_Q " meta_lost=%d end_lost=%d last=%" PRIu64, p->dir,
                  rec->lost_meta, rec->lost_end, p->n_segments > 0 ? last_index_of(p) : 0);
    }
    return rc;
}
