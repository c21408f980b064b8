/* Bodies and attachments of peer messages: decoded or refused, and what is decoded is released
 * whole. */
#include <stddef.h>
#include <stdint.h>

#include "consensus/entry_heap.h"
#include "consensus/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct message m;
    struct error err;
    if (size < 3) {
        return 0;
    }
    entry_heap_install();
    size_t split = 3 + load_le16(data + 1) % (size - 2);
    if (message_decode(data[0] % 64, data + 3, split - 3, data + split, size - split, &m, &err) ==
        0) {
        message_release(&m);
    }
    return 0;
}
