/* FLV tag bodies and the codec configurations in them. */
#include "media/flv.h"
#include "media/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct flv_packet p;
    struct error err;
    struct codec_avc avc;
    struct codec_aac aac;
    if (flv_parse_video(data, size, &p, &err) == 0 && p.kind == FLV_CONFIG) {
        (void)codec_avc_parse(p.data, p.len, &avc, &err);
    }
    if (flv_parse_audio(data, size, &p, &err) == 0 && p.kind == FLV_CONFIG) {
        (void)codec_aac_parse(p.data, p.len, &aac, &err);
    }
    (void)codec_avc_parse(data, size, &avc, &err);
    (void)codec_aac_parse(data, size, &aac, &err);
    return 0;
}
