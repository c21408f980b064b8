#include "nodes/broker/cluster_file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define HEADER_SIZE 32
#define MAGIC       0x554c4357u /* "WCLU" */
static_assert(HEADER_SIZE == 4 + 4 + 4 + 4 + 8 + 8, "see table");

/* --- Out --- */

static void put_record(struct bytes *out, const struct cluster_record *r)
{
    if (bytes_error(&r->key) != 0 || bytes_error(&r->value) != 0) {
        out->error = WEIR_ENOMEM;
        return;
    }
    bytes_put_le32(out, (uint32_t)r->key.len);
    bytes_put_le32(out, (uint32_t)r->value.len);
    bytes_put(out, r->key.data, r->key.len);
    bytes_put(out, r->value.data, r->value.len);
}

static void put_records(const struct cluster *c, struct bytes *out)
{
    struct cluster_record r;
    uint32_t at = 0;
    cluster_record_init(&r);
    for (unsigned i = 0; i < c->n_nodes; i++) {
        cluster_put_node(&r, &c->nodes[i]);
        put_record(out, &r);
    }
    for (uint32_t i = 0; i < c->config->n_topics; i++) {
        const struct config_topic *t = &c->config->topics[i];
        for (uint32_t k = 0; k < t->partitions; k++, at++) {
            if (c->placements[at].replicas.n > 0 && (int64_t)at != cluster_meta_index(c->config)) {
                cluster_put_placement(&r, t->name, k, &c->placements[at]);
                put_record(out, &r);
            }
        }
    }
    if (c->id != 0) {
        cluster_put_cluster(&r, c, c->id, NULL);
        put_record(out, &r);
    }
    cluster_record_close(&r);
}

void cluster_encode(const struct cluster *c, uint64_t cluster_id, struct bytes *out)
{
    size_t start = out->len;
    bytes_put_le32(out, 0);
    bytes_put_le32(out, MAGIC);
    bytes_put_le32(out, CLUSTER_FILE_VERSION);
    bytes_put_le32(out, 0);
    bytes_put_le64(out, cluster_id);
    bytes_put_le64(out, (uint64_t)c->next);
    put_records(c, out);
    if (bytes_error(out) == 0) {
        uint8_t *file = out->data + start;
        size_t len = out->len - start;
        store_le32(file + 12, (uint32_t)(len - HEADER_SIZE));
        store_le32(file, crc32c(0, file + 4, len - 4));
    }
}

/* --- In --- */

static int check_header(struct cursor *c, size_t len, const void *data, struct error *err)
{
    uint32_t crc = cursor_le32(c), magic = cursor_le32(c), version = cursor_le32(c);
    uint32_t records = cursor_le32(c);
    if (!cursor_ok(c) || magic != MAGIC) {
        return error_set(err, WEIR_ECORRUPT, "cluster file: not one, or cut off");
    }
    if (crc != crc32c(0, (const uint8_t *)data + 4, len - 4)) {
        return error_set(err, WEIR_ECORRUPT, "cluster file: bad checksum");
    }
    if (version != CLUSTER_FILE_VERSION) {
        return error_set(err, WEIR_EVERSION, "cluster file: version %u, this program knows %d",
                         version, CLUSTER_FILE_VERSION);
    }
    if (records != len - HEADER_SIZE) {
        return error_set(err, WEIR_ECORRUPT, "cluster file: %zu bytes of records, it says %u",
                         len - HEADER_SIZE, records);
    }
    return 0;
}

static int fold_records(struct cluster *c, struct cursor *in, struct error *err)
{
    while (cursor_left(in) > 0) {
        uint32_t key_len = cursor_le32(in), value_len = cursor_le32(in);
        const uint8_t *key = key_len < CLUSTER_KEY_MAX ? cursor_take(in, key_len) : NULL;
        const uint8_t *value = value_len < INT32_MAX ? cursor_take(in, value_len) : NULL;
        if (key == NULL || value == NULL) {
            return error_set(err, WEIR_ECORRUPT, "cluster file: a record of %u and %u bytes",
                             key_len, value_len);
        }
        /* Void: of a topic that this configuration does not have any more. */
        (void)cluster_fold(c, &(struct batch_record){.offset = LOG_OFFSET(-1),
                                                     .key = key,
                                                     .key_len = (int32_t)key_len,
                                                     .value = value,
                                                     .value_len = (int32_t)value_len});
    }
    return 0;
}

int cluster_decode(struct cluster *c, const void *data, size_t len, uint64_t *ret_cluster_id,
                   struct error *err)
{
    struct cursor in;
    struct cluster copy = *c;
    size_t bytes = (c->n_placements + 1) * sizeof(*c->placements);
    cursor_init(&in, data, len);
    if (len < HEADER_SIZE) {
        return error_set(err, WEIR_ECORRUPT, "cluster file: %zu bytes", len);
    }
    int rv = check_header(&in, len, data, err);
    if (rv != 0) {
        return rv;
    }
    uint64_t id = cursor_le64(&in);
    int64_t next = (int64_t)cursor_le64(&in);
    copy.placements = malloc(bytes);
    if (copy.placements == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for %u placements", c->n_placements);
    }
    memcpy(copy.placements, c->placements, bytes);
    if (len > HEADER_SIZE) {
        copy.n_nodes = copy.n_topics = 0; /* the file has all */
    }
    rv = fold_records(&copy, &in, err);
    if (rv != 0 || next < 0) {
        free(copy.placements);
        return rv != 0 ? rv : error_set(err, WEIR_ECORRUPT, "cluster file: a negative offset");
    }
    free(c->placements);
    *c = copy;
    c->next = next;
    *ret_cluster_id = id;
    return 0;
}

/* --- The file --- */

int cluster_file_load(struct env *env, const char *path, struct cluster *c,
                      uint64_t *ret_cluster_id, struct error *err)
{
    struct env_file *file = NULL;
    uint64_t size = 0;
    size_t n = 0;
    uint8_t *data = NULL;
    int rv = env_file_open(env, path, ENV_OPEN_READ, &file, err);
    if (rv != 0) {
        return rv;
    }
    rv = env_file_size(file, &size, err);
    if (rv == 0 && size > CLUSTER_FILE_BYTES_MAX) {
        rv = error_set(err, WEIR_ECORRUPT, "%s: %llu bytes", path, (unsigned long long)size);
    }
    if (rv == 0 && (data = malloc(size + 1)) == NULL) {
        rv = error_set(err, WEIR_ENOMEM, "%s: no memory", path);
    }
    if (rv == 0) {
        rv = env_file_pread(file, data, size, 0, &n, err);
    }
    env_file_close(file);
    if (rv == 0) {
        rv = cluster_decode(c, data, n, ret_cluster_id, err);
    }
    free(data);
    return rv;
}

int cluster_file_save(struct env *env, const char *dir, const char *path, const struct cluster *c,
                      uint64_t cluster_id, struct error *err)
{
    char next[CONFIG_PATH_MAX + 64];
    struct bytes out;
    struct env_file *file = NULL;
    bytes_init(&out, CLUSTER_FILE_BYTES_MAX);
    (void)snprintf(next, sizeof(next), "%s.new", path);
    cluster_encode(c, cluster_id, &out);
    int rv = bytes_error(&out);
    if (rv != 0) {
        bytes_close(&out);
        return error_set(err, rv, "%s: %s", path, error_name(rv));
    }
    rv = env_file_open(env, next, ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file, err);
    if (rv == 0) {
        rv = env_file_truncate(file, 0, err);
        rv = rv == 0 ? env_file_pwrite(file, out.data, out.len, 0, err) : rv;
        rv = rv == 0 ? env_file_sync(file, err) : rv;
        env_file_close(file);
    }
    bytes_close(&out);
    rv = rv == 0 ? env_rename(env, next, path, err) : rv;
    return rv == 0 ? env_dir_sync(env, dir, err) : rv;
}
