/* The partition's metadata, written where nobody waits for it. Marks (how far is applied, that the
 * votes are elsewhere) may be lost: the next start reads more, or asks again. */
#include <stdlib.h>
#include <string.h>

#include "base/logging.h"
#include "log/partition_priv.h"

/* Lives while it writes; 12 KiB that an idle partition need not hold. */
struct meta_op {
    struct env_io io;
    struct iovec iov;
    struct partition *p; /* NULL: closed, or overtaken by a synchronous write */
    struct meta writing;
    bool again;
    struct meta next;
    uint8_t slot[META_SLOT_SIZE];
};

static void write_slot(struct meta_op *op);

static void on_written(struct env_io *io, int status)
{
    struct meta_op *op = io->data;
    struct partition *p = op->p;
    if (p == NULL) {
        free(op);
        return;
    }
    if (status != 0) {
        p->meta_op = NULL;
        free(op);
        partition_fail(p, status, "meta");
        return;
    }
    p->meta = op->writing;
    mark_touch(p);
    if (op->again) {
        op->again = false;
        op->writing = op->next;
        write_slot(op);
        return;
    }
    p->meta_op = NULL;
    free(op);
}

static void write_slot(struct meta_op *op)
{
    struct partition *p = op->p;
    op->writing.counter = p->meta.counter + 1;
    meta_encode(&op->writing, op->slot);
    op->iov = (struct iovec){op->slot, sizeof(op->slot)};
    op->io = (struct env_io){.data = op,
                             .iov = &op->iov,
                             .n_iov = 1,
                             .offset = meta_position(op->writing.counter),
                             .sync = true};
    env_file_write(p->meta_file, &op->io, on_written);
}

int meta_of(const struct partition *p, const struct partition_meta *meta, struct meta *ret_meta,
            struct error *err)
{
    if (p->failed) {
        return error_set(err, WEIR_EIO, "%s: failed before", p->dir);
    }
    if (meta->snapshot_config_len > META_CONFIG_MAX) {
        return error_set(err, WEIR_ETOOBIG, "%s: configuration of %u bytes, at most %d", p->dir,
                         meta->snapshot_config_len, META_CONFIG_MAX);
    }
    *ret_meta = (struct meta){
        .term = meta->term,
        .vote = meta->vote,
        .snapshot_index = meta->snapshot_index,
        .snapshot_term = meta->snapshot_term,
        .snapshot_config_index = meta->snapshot_config_index,
        .recovering = meta->recovering,
        .votes_shared = meta->votes_shared,
        .wish = meta->wish,
        .begun_index = meta->begun_index,
        .config_len = meta->snapshot_config_len,
    };
    if (ret_meta->config_len > 0) {
        memcpy(ret_meta->config, meta->snapshot_config, ret_meta->config_len);
    }
    return 0;
}

int partition_save_meta(struct partition *p, const struct partition_meta *meta, struct error *err)
{
    struct meta m;
    int rc = meta_of(p, meta, &m, err);
    if (rc != 0) {
        return rc;
    }
    if (p->meta_op != NULL) {
        p->meta_op->next = m;
        p->meta_op->again = true;
        return 0;
    }
    struct meta_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        return error_set(err, WEIR_ENOMEM, "%s: no memory for its metadata", p->dir);
    }
    op->p = p;
    op->writing = m;
    p->meta_op = op;
    write_slot(op);
    return 0;
}

void meta_overtake(struct partition *p)
{
    env_file_wait(p->meta_file);
    if (p->meta_op != NULL) {
        p->meta_op->p = NULL; /* its callback frees it */
        p->meta_op = NULL;
    }
}
