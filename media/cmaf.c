#include "media/cmaf.h"

#include <assert.h>
#include <string.h>

enum track_id { TRACK_VIDEO = 1, TRACK_AUDIO = 2 };

/* tfhd: the base of data offsets is the moof, there is a default for sample flags. trun: which
 * fields a sample has. */
#define TFHD_DEFAULT_BASE_IS_MOOF 0x020000u
#define TRUN_DATA_OFFSET          0x000001u
#define TRUN_DURATION             0x000100u
#define TRUN_SIZE                 0x000200u
#define TRUN_FLAGS                0x000400u
#define TRUN_COMPOSITION          0x000800u
#define SAMPLE_SYNC               0x02000000u /* depends on no other */
#define SAMPLE_NOT_SYNC           0x01010000u

/* --- Boxes
 * -----------------------------------------------------------------------------------------------------
 */

/* Begins a box whose size box_end fills in; returns where it begins. */
static size_t box(struct bytes *b, const char type[4])
{
    size_t at = b->len;
    bytes_put_be32(b, 0);
    bytes_put(b, type, 4);
    return at;
}

static size_t full_box(struct bytes *b, const char type[4], uint8_t version, uint32_t flags)
{
    size_t at = box(b, type);
    bytes_put_u8(b, version);
    bytes_put_be24(b, flags);
    return at;
}

static void box_end(struct bytes *b, size_t at)
{
    if (bytes_error(b) == 0) {
        store_be32(b->data + at, (uint32_t)(b->len - at));
    }
}

static void put_zeros(struct bytes *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bytes_put_u8(b, 0);
    }
}

static void put_unity_matrix(struct bytes *b)
{
    static const uint32_t matrix[9] = {0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000};
    for (size_t i = 0; i < 9; i++) {
        bytes_put_be32(b, matrix[i]);
    }
}

/* --- Initialisation segment
 * ------------------------------------------------------------------------------------ */

struct track {
    uint32_t id, timescale;
    const struct codec_avc *video; /* or */
    const struct codec_aac *audio;
};

static void put_ftyp(struct bytes *b)
{
    size_t at = box(b, "ftyp");
    bytes_put(b, "iso6", 4);
    bytes_put_be32(b, 0);
    bytes_put(b, "iso6mp41", 8);
    box_end(b, at);
}

static void put_mvhd(struct bytes *b)
{
    size_t at = full_box(b, "mvhd", 0, 0);
    bytes_put_be32(b, 0); /* created, modified: unknown, so that the bytes are the same anywhere */
    bytes_put_be32(b, 0);
    bytes_put_be32(b, 1000);
    bytes_put_be32(b, 0); /* the duration is in the fragments */
    bytes_put_be32(b, 0x10000);
    bytes_put_be16(b, 0x100);
    put_zeros(b, 10);
    put_unity_matrix(b);
    put_zeros(b, 24);
    bytes_put_be32(b, TRACK_AUDIO + 1);
    box_end(b, at);
}

static void put_tkhd(struct bytes *b, const struct track *t)
{
    size_t at = full_box(b, "tkhd", 0, 3 /* enabled, in movie */);
    put_zeros(b, 8);
    bytes_put_be32(b, t->id);
    put_zeros(b, 16);
    bytes_put_be16(b, 0);
    bytes_put_be16(b, 0);
    bytes_put_be16(b, t->audio != NULL ? 0x100 : 0);
    bytes_put_be16(b, 0);
    put_unity_matrix(b);
    bytes_put_be32(b, t->video != NULL ? t->video->width << 16 : 0);
    bytes_put_be32(b, t->video != NULL ? t->video->height << 16 : 0);
    box_end(b, at);
}

static void put_mdhd_hdlr(struct bytes *b, const struct track *t)
{
    size_t at = full_box(b, "mdhd", 0, 0);
    put_zeros(b, 8);
    bytes_put_be32(b, t->timescale);
    bytes_put_be32(b, 0);
    bytes_put_be16(b, 0x55c4); /* "und" */
    bytes_put_be16(b, 0);
    box_end(b, at);
    at = full_box(b, "hdlr", 0, 0);
    bytes_put_be32(b, 0);
    bytes_put(b, t->video != NULL ? "vide" : "soun", 4);
    put_zeros(b, 12);
    bytes_put(b, t->video != NULL ? "video" : "sound", 6);
    box_end(b, at);
}

static void put_media_header(struct bytes *b, const struct track *t)
{
    size_t at;
    if (t->video != NULL) {
        at = full_box(b, "vmhd", 0, 1);
        put_zeros(b, 8);
    } else {
        at = full_box(b, "smhd", 0, 0);
        put_zeros(b, 4);
    }
    box_end(b, at);
    at = box(b, "dinf");
    size_t dref = full_box(b, "dref", 0, 0);
    bytes_put_be32(b, 1);
    box_end(b, full_box(b, "url ", 0, 1 /* in this file */));
    box_end(b, dref);
    box_end(b, at);
}

static void put_avc1(struct bytes *b, const struct codec_avc *v)
{
    size_t at = box(b, "avc1");
    put_zeros(b, 6);
    bytes_put_be16(b, 1);
    put_zeros(b, 16);
    bytes_put_be16(b, (uint16_t)v->width);
    bytes_put_be16(b, (uint16_t)v->height);
    bytes_put_be32(b, 0x480000); /* 72 dpi */
    bytes_put_be32(b, 0x480000);
    bytes_put_be32(b, 0);
    bytes_put_be16(b, 1);
    put_zeros(b, 32);
    bytes_put_be16(b, 0x18);
    bytes_put_be16(b, 0xffff);
    size_t avcc = box(b, "avcC");
    bytes_put(b, v->config, v->config_len);
    box_end(b, avcc);
    box_end(b, at);
}

/* A descriptor of 14496-1 with its length in one byte. */
static void put_descriptor(struct bytes *b, uint8_t tag, size_t len)
{
    bytes_put_u8(b, tag);
    bytes_put_u8(b, (uint8_t)len);
}

static void put_esds(struct bytes *b, const struct codec_aac *a)
{
    static_assert(CODEC_AAC_CONFIG_MAX + 32 < 128, "lengths fit one byte");
    size_t at = full_box(b, "esds", 0, 0);
    put_descriptor(b, 3, 3 + 2 + 13 + 2 + a->config_len + 3);
    bytes_put_be16(b, TRACK_AUDIO);
    bytes_put_u8(b, 0);
    put_descriptor(b, 4, 13 + 2 + a->config_len);
    bytes_put_u8(b, 0x40); /* MPEG-4 audio */
    bytes_put_u8(b, 0x15); /* audio stream */
    put_zeros(b, 3);
    bytes_put_be32(b, 0);
    bytes_put_be32(b, 0);
    put_descriptor(b, 5, a->config_len);
    bytes_put(b, a->config, a->config_len);
    put_descriptor(b, 6, 1);
    bytes_put_u8(b, 2);
    box_end(b, at);
}

static void put_mp4a(struct bytes *b, const struct codec_aac *a)
{
    size_t at = box(b, "mp4a");
    put_zeros(b, 6);
    bytes_put_be16(b, 1);
    put_zeros(b, 8);
    bytes_put_be16(b, (uint16_t)a->channels);
    bytes_put_be16(b, 16);
    put_zeros(b, 4);
    /* 16.16: rates above do not fit and are read from the configuration anyway */
    bytes_put_be32(b, a->sample_rate <= UINT16_MAX ? a->sample_rate << 16 : 0);
    put_esds(b, a);
    box_end(b, at);
}

static void put_sample_table(struct bytes *b, const struct track *t)
{
    static const char *const empty[] = {"stts", "stsc", "stco"};
    size_t at = box(b, "stbl");
    size_t stsd = full_box(b, "stsd", 0, 0);
    bytes_put_be32(b, 1);
    if (t->video != NULL) {
        put_avc1(b, t->video);
    } else {
        assert(t->audio != NULL);
        put_mp4a(b, t->audio);
    }
    box_end(b, stsd);
    for (size_t i = 0; i < 3; i++) {
        size_t e = full_box(b, empty[i], 0, 0);
        bytes_put_be32(b, 0);
        box_end(b, e);
    }
    size_t stsz = full_box(b, "stsz", 0, 0);
    put_zeros(b, 8);
    box_end(b, stsz);
    box_end(b, at);
}

static void put_trak(struct bytes *b, const struct track *t)
{
    size_t trak = box(b, "trak");
    put_tkhd(b, t);
    size_t mdia = box(b, "mdia");
    put_mdhd_hdlr(b, t);
    size_t minf = box(b, "minf");
    put_media_header(b, t);
    put_sample_table(b, t);
    box_end(b, minf);
    box_end(b, mdia);
    box_end(b, trak);
}

static void put_trex(struct bytes *b, uint32_t id)
{
    size_t at = full_box(b, "trex", 0, 0);
    bytes_put_be32(b, id);
    bytes_put_be32(b, 1);
    put_zeros(b, 12);
    box_end(b, at);
}

void cmaf_put_init(struct bytes *out, const struct codec_avc *video, const struct codec_aac *audio)
{
    put_ftyp(out);
    size_t moov = box(out, "moov");
    put_mvhd(out);
    put_trak(out, &(struct track){TRACK_VIDEO, CMAF_VIDEO_HZ, video, NULL});
    if (audio != NULL) {
        put_trak(out, &(struct track){TRACK_AUDIO, audio->sample_rate, NULL, audio});
    }
    size_t mvex = box(out, "mvex");
    put_trex(out, TRACK_VIDEO);
    if (audio != NULL) {
        put_trex(out, TRACK_AUDIO);
    }
    box_end(out, mvex);
    box_end(out, moov);
}

/* --- Fragments
 * -------------------------------------------------------------------------------------------------
 */

/* Returns where the data offset stands, to be filled in when the moof's size is known. */
static size_t put_traf(struct bytes *b, uint32_t id, const struct cmaf_run *run)
{
    bool video = id == TRACK_VIDEO;
    uint32_t fields = TRUN_DATA_OFFSET | TRUN_DURATION | TRUN_SIZE;
    size_t traf = box(b, "traf");
    size_t at = full_box(b, "tfhd", 0, TFHD_DEFAULT_BASE_IS_MOOF);
    bytes_put_be32(b, id);
    box_end(b, at);
    at = full_box(b, "tfdt", 1, 0);
    bytes_put_be64(b, (uint64_t)run->dts);
    box_end(b, at);
    at = full_box(b, "trun", 1 /* signed composition */,
                  fields | TRUN_FLAGS | (video ? TRUN_COMPOSITION : 0));
    bytes_put_be32(b, run->n_samples);
    size_t offset = b->len;
    bytes_put_be32(b, 0);
    for (uint32_t i = 0; i < run->n_samples; i++) {
        const struct cmaf_sample *s = &run->samples[i];
        bytes_put_be32(b, s->duration);
        bytes_put_be32(b, s->size);
        bytes_put_be32(b, s->sync ? SAMPLE_SYNC : SAMPLE_NOT_SYNC);
        if (video) {
            bytes_put_be32(b, (uint32_t)s->composition);
        }
    }
    box_end(b, at);
    box_end(b, traf);
    return offset;
}

void cmaf_put_fragment(struct bytes *out, uint32_t sequence, const struct cmaf_run *video,
                       const struct cmaf_run *audio)
{
    size_t video_offset = 0, audio_offset = 0;
    size_t moof = box(out, "moof");
    size_t at = full_box(out, "mfhd", 0, 0);
    bytes_put_be32(out, sequence);
    box_end(out, at);
    if (video->n_samples > 0) {
        video_offset = put_traf(out, TRACK_VIDEO, video);
    }
    if (audio->n_samples > 0) {
        audio_offset = put_traf(out, TRACK_AUDIO, audio);
    }
    box_end(out, moof);
    size_t data = out->len - moof + 8;
    if (bytes_error(out) == 0 && video_offset > 0) {
        store_be32(out->data + video_offset, (uint32_t)data);
    }
    if (bytes_error(out) == 0 && audio_offset > 0) {
        store_be32(out->data + audio_offset,
                   (uint32_t)(data + (video->n_samples > 0 ? video->len : 0)));
    }
    size_t mdat = box(out, "mdat");
    if (video->n_samples > 0) {
        bytes_put(out, video->data, video->len);
    }
    if (audio->n_samples > 0) {
        bytes_put(out, audio->data, audio->len);
    }
    box_end(out, mdat);
}
