/* A partition on a fault_env, with a model of what must be in it: for tests of log/. */
#ifndef TESTS_UNIT_LOG_HARNESS_H
#define TESTS_UNIT_LOG_HARNESS_H

#include "fault_env.h"
#include "log/partition.h"

#define HARNESS_DIR "/p"
#define MODEL_MAX   512
#define PAYLOAD_MAX 6000
#define GROUP_MAX   6

struct model_entry {
    uint64_t term;
    enum log_entry_type type;
    uint32_t len;
    uint8_t payload[PAYLOAD_MAX];
};

struct pending {
    struct partition_append req;
    struct log_entry entries[GROUP_MAX];
    struct harness *h;
    bool in_use;
};

struct harness {
    struct env *env;
    struct partition *p;
    struct partition_options options;
    unsigned number;
    bool plain;                /* batches without a producer */
    bool forgetful;            /* the state may know less than the log: memory ran out */
    bool was_reset;            /* the log in the partition began anew */
    bool no_commit;            /* entries may still go: check does not commit and fetch them */
    struct model_entry *model; /* [MODEL_MAX + 1], by index; what was appended last */
    uint64_t last;             /* index of the newest entry in the model */
    uint64_t acked;            /* every entry up to it must survive */
    uint64_t term, value;
    uint64_t meta_term; /* acknowledged */
    uint64_t meta_tried;
    struct pending pending[64];
    unsigned n_callbacks, n_errors;
    int last_status;
    uint64_t last_called; /* index of the last append that called back */
};

/* `number` 0 or 1: at most two at a time. */
void harness_init(struct harness *h, uint64_t seed, unsigned number);
void harness_close(struct harness *h);
int harness_open(struct harness *h, struct error *err);
/* Appends one batch of `records` records with `bytes` of value in all; does not run the loop. */
void harness_append(struct harness *h, unsigned records, uint32_t bytes);
/* Appends n batches and barriers by one request. */
void harness_append_group(struct harness *h, unsigned n, uint32_t bytes);
/* Appends exactly this entry. */
void harness_append_raw(struct harness *h, uint64_t term, enum log_entry_type type,
                        const void *payload, uint32_t len);
void harness_append_type(struct harness *h, enum log_entry_type type);
/* n entries of many sizes and types, depending on the seed only; runs the loop. */
void harness_append_some(struct harness *h, unsigned n, unsigned seed);
/* A whole life: appends, terms, truncations. Ends early when the partition fails. */
void harness_live(struct harness *h, unsigned seed);
void harness_run(struct harness *h);
/* Also moves the model. */
int harness_truncate(struct harness *h, uint64_t from);
/* Also moves the model: it is empty, and goes on with entry to->first_index. */
int harness_reset(struct harness *h, const struct partition_begin *to);
int harness_set_term(struct harness *h, uint64_t term);
/* The partition holds exactly entries 1..partition_last_index of the model, at least up to acked,
 * by every way of reading. */
void harness_check(struct harness *h);
/* Reads everything; 0 when all is as in the model, else the error of the read. Wrong data fails the
 * test. */
int harness_read_all(struct harness *h, struct error *err);
/* After a restart: the log in the model ends where the partition's does. */
void harness_adopt(struct harness *h);

#endif
