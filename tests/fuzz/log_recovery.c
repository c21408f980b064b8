/* A partition whose files were changed at will opens and can be read and appended to, or its damage
 * is named. The first byte says what the rest is: bytes of a segment behind its header, a whole
 * meta file, a mark, an index file, or single changes of a good partition; with the checksums made
 * to fit when the byte is odd. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/log/fault_env.h"
#include "base/crc32c.h"
#include "base/logging.h"
#include "log/frame.h"
#include "log/partition.h"
#include "log/segment.h"

#define SEGMENT "/p/00000000000000000001.log"
#define INDEX   "/p/00000000000000000001.index"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct partition_options options = {
    .segment_bytes = 8192, .tail_bytes = 1, .index_bytes = 256};
static struct env *env;
static struct fault_image *image;

static void on_append(struct partition_append *req, int status)
{
    (void)status;
    req->data = NULL;
}

static int append(struct partition *p, uint32_t len)
{
    static const uint8_t payload[3000];
    struct log_entry entry = {LOG_TERM(3), LOG_ENTRY_CONFIG, payload, len};
    struct partition_append req = {.data = p, .entries = &entry, .n = 1};
    partition_append(p, &req, on_append);
    fault_env_run(env);
    return req.data == NULL ? 0 : -1;
}

static void make_image(void)
{
    struct partition *p;
    struct error err;
    log_set_level(LOG_ERROR);
    env = fault_env_new(1);
    int rc = partition_open(env, "/p", &options, &p, &err);
    assert(rc == 0);
    for (uint32_t i = 0; i < 12; i++) {
        rc = append(p, i * 100);
        assert(rc == 0);
    }
    (void)rc;
    partition_close(p);
    fault_env_run(env);
    image = fault_env_save(env);
}

static void put(const char *path, size_t at, const uint8_t *data, size_t n)
{
    size_t size;
    uint8_t *file = fault_env_data(env, path, &size);
    if (file != NULL && at < size) {
        memcpy(file + at, data, n < size - at ? n : size - at);
    }
}

/* Makes the checksums of all frames fit, as far as their lengths lead. */
static void fix_frames(void)
{
    size_t size;
    struct segment_header header;
    uint8_t *file = fault_env_data(env, SEGMENT, &size);
    if (size < SEGMENT_HEADER_SIZE || !segment_header_decode(file, &header, NULL)) {
        return;
    }
    size_t at = SEGMENT_HEADER_SIZE;
    while (at + FRAME_HEADER_SIZE <= size) {
        struct frame f = frame_peek(file + at);
        if (f.len > size || frame_size(f.len) > size - at) {
            break;
        }
        size_t body = frame_size(f.len) - FRAME_HEADER_SIZE;
        store_le32(file + at + 4, crc32c(0, file + at + FRAME_HEADER_SIZE, body));
        frame_seal(file + at, frame_seed(header.salt), f.synced);
        at += frame_size(f.len);
    }
}

static void fix_crc(const char *path, size_t covered)
{
    size_t size;
    uint8_t *file = fault_env_data(env, path, &size);
    if (file != NULL && size >= covered && covered > 12) {
        store_le32(file + 8, crc32c(0, file + 12, covered - 12));
    }
}

static void change(const uint8_t *data, size_t size, bool fix)
{
    static const char *const paths[] = {SEGMENT, INDEX, "/p/meta", "/p/mark"};
    for (size_t i = 0; i + 4 <= size; i += 4) {
        put(paths[data[i] % 4], load_le16(data + i + 1), data + i + 3, 1);
    }
    if (fix) {
        fix_frames();
    }
}

static int on_entry(void *data, const struct partition_entry *e)
{
    uint32_t *sum = data;
    *sum = crc32c(*sum, e->payload, e->len);
    return 0;
}

static void use(struct partition *p)
{
    struct error err;
    struct log_offset offset;
    struct bytes out;
    uint32_t sum = 0;
    uint64_t last = partition_last_index(p).v;
    (void)partition_read(p, LOG_INDEX(1), UINT64_MAX, on_entry, &sum, &err);
    (void)partition_config_index(p, LOG_INDEX(last));
    partition_set_commit(p, LOG_INDEX(last / 2));
    bytes_init(&out, 1 << 20);
    (void)partition_fetch(p, partition_start_offset(p), 1 << 16, &out, &offset, &err);
    (void)partition_offset_for_time(p, 1, &offset, &err);
    bytes_close(&out);
    int rc = append(p, 50);
    assert(rc == 0);
    (void)rc;
    if (last > 4 && !partition_failed(p)) {
        (void)partition_truncate(p, LOG_INDEX(last / 2 + 1), &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partition *p;
    struct error err = {0};
    if (image == NULL) {
        make_image();
    }
    if (size == 0) {
        return 0;
    }
    fault_env_restore(env, image);
    bool fix = data[0] & 1;
    switch (data[0] / 2 % 5) {
    case 0:
        put(SEGMENT, SEGMENT_HEADER_SIZE, data + 1, size - 1);
        if (fix) {
            fix_frames();
        }
        break;
    case 1:
        put("/p/meta", 0, data + 1, size - 1);
        break;
    case 2:
        put("/p/mark", 0, data + 1, size - 1);
        fix_crc("/p/mark", fix ? 40 : 0);
        break;
    case 3:
        put(INDEX, 12, data + 1, size - 1);
        fix_crc(INDEX, fix ? 12 + size - 1 : 0);
        break;
    default:
        change(data + 1, size - 1, fix);
        break;
    }
    int rc = partition_open(env, "/p", &options, &p, &err);
    if (rc == 0) {
        use(p);
        partition_close(p);
        fault_env_run(env);
    } else {
        assert(rc == WEIR_ECORRUPT && err.text[0] == '/');
    }
    return 0;
}
