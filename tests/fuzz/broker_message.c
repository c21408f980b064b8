/* Any bytes as a stream of frames whose heads are unpacked: what a broker does with a peer's first
 * bytes. */
#include "proto/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame_parser parser;
    struct frame frame;
    struct error err;
    ProtobufCMessage *head = NULL;
    /* The frame's checksum would keep nearly all inputs out: heads also as they are, of the type in
     * the first byte. */
    if (size > 0) {
        frame = (struct frame){.type = data[0], .head = data + 1, .head_len = (uint32_t)size - 1};
        if (message_unpack(&frame, &head, &err) == 0) {
            struct bytes out;
            bytes_init(&out, 1u << 24);
            message_put(&out, frame.type, 1, head);
            bytes_close(&out);
            message_free(head);
        }
    }
    frame_parser_init(&parser, 1u << 20);
    if (size <= FRAME_FEED_MAX && frame_parser_feed(&parser, data, size) == 0) {
        while (frame_parser_next(&parser, &frame, &err) == 1) {
            if (message_unpack(&frame, &head, &err) == 0) {
                message_free(head);
            }
        }
    }
    frame_parser_close(&parser);
    return 0;
}
