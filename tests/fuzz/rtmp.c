/* An RTMP session fed with anything: the first byte says how the caller answers `publish` and how
 * the bytes are sliced. */
#include <stdlib.h>

#include "media/rtmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct rtmp *session;
static unsigned answer;

static void on_publish(void *data, const char *app, const char *name)
{
    (void)data;
    (void)app;
    (void)name;
    if (answer == 1) {
        rtmp_publish_reject(session, "no");
    } else if (answer == 0) {
        (void)rtmp_publish_accept(session, NULL);
    }
}

static void on_media(void *data, enum rtmp_media type, uint32_t ms, const uint8_t *body, size_t len)
{
    volatile uint8_t sum = 0;
    (void)data;
    (void)type;
    (void)ms;
    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + body[i]);
    }
}

static void on_metadata(void *data, const struct rtmp_metadata *m)
{
    (void)data;
    (void)m;
}

static void on_unpublish(void *data)
{
    (void)data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rtmp_events events = {NULL, on_publish, on_media, on_metadata, on_unpublish};
    if (size < 1 || rtmp_new(&events, &session) < 0) {
        return 0;
    }
    answer = data[0] & 3;
    size_t slice = (data[0] >> 2) + 1u;
    bool handshake = (data[0] & 0x80) == 0;
    static const uint8_t greeting[1 + 2 * 1536] = {3};
    int rc = handshake ? rtmp_receive(session, greeting, sizeof(greeting), NULL) : 0;
    for (size_t at = 1; rc == 0 && at < size; at += slice) {
        size_t n = size - at < slice ? size - at : slice;
        rc = rtmp_receive(session, data + at, n, NULL);
        if (rc == 0 && answer == 2 && !rtmp_wants_input(session)) {
            rc = rtmp_publish_accept(session, NULL);
        }
        bytes_reset(rtmp_output(session));
    }
    rtmp_free(session);
    return 0;
}
