/* Any record of topic `groups` folds or is ignored. Input: a byte, the key's length, key, value; a
 * first byte that is odd means a null value. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "nodes/broker/group_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct group_view v;
    group_view_init(&v);
    while (size >= 3) {
        size_t key = data[1], value = data[2];
        bool null = (data[0] & 1) != 0;
        data += 3;
        size -= 3;
        key = key < size ? key : size;
        value = value < size - key ? value : size - key;
        struct batch_record r = {.timestamp_ms = 1000,
                                 .key = data,
                                 .key_len = (int32_t)key,
                                 .value = null ? NULL : data + key,
                                 .value_len = null ? -1 : (int32_t)value};
        assert(group_view_apply(&v, &r) == 0);
        data += key + value;
        size -= key + value;
    }
    uint32_t n = 0;
    for (unsigned i = 0; i < GROUP_VIEW_BUCKETS; i++) {
        LIST_FOREACH(it, &v.groups[i])
        {
            n += list_entry(it, struct view_group, link)->n_offsets;
        }
    }
    assert(n == v.n_offsets);
    group_view_close(&v);
    return 0;
}
