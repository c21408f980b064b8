/* The worker as a process of its own, behind its sandbox, fed with what ffmpeg sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "media/worker.h"
#include "media/worker_wire.h"
#include "media_golden.h"

#define RUNG_HEIGHT 60

struct input {
    struct bytes all;
    size_t key_at[16]; /* where each key frame begins */
    int64_t key_dts[16];
    unsigned n_keys;
    size_t configs; /* length of the configurations in front */
};

static void on_input(void *data, uint8_t type, const struct bytes *frame)
{
    struct input *in = data;
    struct wire_frame f;
    struct wire_video v;
    assert_int_equal(wire_next(frame->data, frame->len, &f, NULL), 1);
    if (type == WIRE_VIDEO && wire_get_video(&f, &v) == 0 && v.key) {
        if (in->n_keys == 0) {
            in->configs = in->all.len;
        }
        in->key_dts[in->n_keys] = v.dts;
        in->key_at[in->n_keys++] = in->all.len;
    }
    bytes_put(&in->all, frame->data, frame->len);
}

struct output {
    struct bytes all;
    int status;
};

static pid_t start_worker(int *ret_fd)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        dup2(fds[1], WORKER_FD);
        _exit(media_worker_main(WORKER_FD));
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}

/* Another process writes, so that neither side waits for the other. */
static struct output run_worker(const struct bytes *input)
{
    struct output out = {0};
    int fd;
    pid_t worker = start_worker(&fd);
    pid_t writer = fork();
    assert_true(writer >= 0);
    if (writer == 0) {
        size_t at = 0;
        while (at < input->len) {
            ssize_t n = send(fd, input->data + at, input->len - at, MSG_NOSIGNAL);
            if (n <= 0) {
                break;
            }
            at += (size_t)n;
        }
        shutdown(fd, SHUT_WR);
        _exit(0);
    }
    bytes_init(&out.all, 64u << 20);
    for (;;) {
        uint8_t *to = bytes_reserve(&out.all, 65536);
        assert_non_null(to);
        ssize_t n = read(fd, to, 65536);
        if (n <= 0) {
            break;
        }
        out.all.len += (size_t)n;
    }
    close(fd);
    assert_int_equal(waitpid(worker, &out.status, 0), worker);
    assert_int_equal(waitpid(writer, NULL, 0), writer);
    return out;
}

static struct wire_start start_message(uint32_t rung_height)
{
    return (struct wire_start){.part_ticks = 44820,
                               .segment_ticks = 180000,
                               .rung_height = rung_height,
                               .rung_bps = 100000};
}

/* Counts, and checks that numbers go on without a hole. */
struct summary {
    unsigned renditions, parts[2], thumbnails, ends, errors;
    struct wire_position next[2];
    struct bytes media[2]; /* parts joined */
    char error[256];
};

static void take_part(struct summary *s, const struct wire_frame *f)
{
    struct wire_part p;
    assert_int_equal(wire_get_part(f, &p), 0);
    struct wire_position *next = &s->next[p.rendition];
    if (s->parts[p.rendition]++ > 0) {
        assert_int_equal(p.msn, next->msn);
        assert_int_equal(p.part, next->part);
    }
    *next =
        p.last ? (struct wire_position){p.msn + 1, 0} : (struct wire_position){p.msn, p.part + 1};
    bytes_put(&s->media[p.rendition], p.data, p.len);
}

static void summarise(const struct output *out, struct summary *s)
{
    struct wire_frame f;
    struct wire_text text;
    memset(s, 0, sizeof(*s));
    bytes_init(&s->media[0], 16u << 20);
    bytes_init(&s->media[1], 16u << 20);
    for (size_t at = 0; at < out->all.len; at += f.size) {
        assert_int_equal(wire_next(out->all.data + at, out->all.len - at, &f, NULL), 1);
        s->renditions += f.type == WIRE_RENDITION;
        s->thumbnails += f.type == WIRE_THUMBNAIL;
        s->ends += f.type == WIRE_END;
        if (f.type == WIRE_PART) {
            take_part(s, &f);
        } else if (f.type == WIRE_ERROR) {
            assert_int_equal(wire_get_text(&f, &text), 0);
            s->errors++;
            memcpy(s->error, text.text, text.len < 255 ? text.len : 255);
        }
    }
}

static void summary_close(struct summary *s)
{
    bytes_close(&s->media[0]);
    bytes_close(&s->media[1]);
}

static struct input read_input(void)
{
    struct input in = {0};
    bytes_init(&in.all, 16u << 20);
    golden_frames("rtmp_ffmpeg.bin", on_input, &in);
    assert_int_equal(in.n_keys, 5);
    return in;
}

/* Start, configurations, everything from a key frame on, finish. */
static struct bytes make_run(const struct input *in, const struct wire_start *start, unsigned key)
{
    struct bytes b;
    bytes_init(&b, 16u << 20);
    wire_put_start(&b, start);
    bytes_put(&b, in->all.data, in->configs);
    bytes_put(&b, in->all.data + in->key_at[key], in->all.len - in->key_at[key]);
    wire_put_empty(&b, WIRE_FINISH);
    assert_int_equal(bytes_error(&b), 0);
    return b;
}

static void run_and_summarise(const struct input *in, const struct wire_start *start, unsigned key,
                              struct summary *s)
{
    struct bytes run = make_run(in, start, key);
    struct output out = run_worker(&run);
    assert_int_equal(out.status, 0);
    summarise(&out, s);
    bytes_close(&out.all);
    bytes_close(&run);
}

static void worker__makes_source_and_rung_with_the_same_numbers(void **state)
{
    (void)state;
    struct input in = read_input();
    struct summary s;
    struct wire_start start = start_message(RUNG_HEIGHT);
    run_and_summarise(&in, &start, 0, &s);
    assert_int_equal(s.renditions, 2);
    assert_int_equal(s.parts[0], 13); /* 5 s: segments of 2, 2 and 1 s */
    assert_int_equal(s.parts[1], s.parts[0]);
    assert_int_equal(s.next[0].msn, 3);
    assert_int_equal(s.next[1].msn, 3);
    assert_true(s.thumbnails >= 1);
    assert_int_equal(s.ends, 1);
    summary_close(&s);
    bytes_close(&in.all);
}

static void worker__never_scales_up(void **state)
{
    (void)state;
    struct input in = read_input();
    struct summary s;
    struct wire_start start = start_message(120);
    run_and_summarise(&in, &start, 0, &s);
    assert_int_equal(s.renditions, 1);
    assert_int_equal(s.parts[1], 0);
    assert_true(s.thumbnails >= 1);
    summary_close(&s);
    bytes_close(&in.all);
}

static void worker__goes_on_where_another_one_stopped_with_the_same_bytes(void **state)
{
    (void)state;
    struct input in = read_input();
    struct summary whole, rest;
    struct wire_start start = start_message(0);
    run_and_summarise(&in, &start, 0, &whole);
    /* Dead after part 1.1: fed again from the third key frame, which began segment 1. */
    start.target_duration_ms = 2000;
    start.first_msn[0] = 1;
    start.next[0] = (struct wire_position){1, 2};
    run_and_summarise(&in, &start, 2, &rest);
    assert_int_equal(rest.parts[0], 13 - 5 - 2);
    assert_int_equal(rest.next[0].msn, 3);
    assert_true(rest.media[0].len < whole.media[0].len);
    assert_memory_equal(rest.media[0].data,
                        whole.media[0].data + whole.media[0].len - rest.media[0].len,
                        rest.media[0].len);
    summary_close(&whole);
    summary_close(&rest);
    bytes_close(&in.all);
}

static void worker__goes_on_with_a_rung_that_counts_differently(void **state)
{
    (void)state;
    struct input in = read_input();
    struct summary s;
    struct wire_start start = start_message(RUNG_HEIGHT);
    start.target_duration_ms = 2000;
    start.first_msn[0] = 11;
    start.first_msn[1] = 9;
    start.next[0] = (struct wire_position){12, 1};
    start.next[1] = (struct wire_position){9, 3};
    run_and_summarise(&in, &start, 0, &s);
    assert_int_equal(s.parts[0], 13 - 5 - 1);
    assert_int_equal(s.parts[1], 13 - 3);
    assert_int_equal(s.next[0].msn, 14);
    assert_int_equal(s.next[1].msn, 12);
    summary_close(&s);
    bytes_close(&in.all);
}

static void worker__refuses_a_broken_configuration_in_words(void **state)
{
    (void)state;
    struct bytes b;
    struct summary s;
    struct wire_start start = start_message(0);
    bytes_init(&b, 65536);
    wire_put_start(&b, &start);
    wire_put_config(&b, WIRE_VIDEO_CONFIG, (const uint8_t *)"garbage", 7);
    struct output out = run_worker(&b);
    summarise(&out, &s);
    assert_int_equal(out.status, 0);
    assert_int_equal(s.errors, 1);
    assert_non_null(strstr(s.error, "H.264"));
    summary_close(&s);
    bytes_close(&out.all);
    bytes_close(&b);
}

static void worker__survives_frames_that_are_not_video(void **state)
{
    (void)state;
    struct input in = read_input();
    struct summary s;
    struct wire_start start = start_message(RUNG_HEIGHT);
    struct bytes b;
    uint8_t noise[3000];
    uint32_t seed = 1;
    bytes_init(&b, 1u << 20);
    wire_put_start(&b, &start);
    bytes_put(&b, in.all.data, in.configs);
    for (unsigned i = 0; i < 120; i++) {
        for (size_t k = 0; k < sizeof(noise); k++) {
            seed = seed * 1664525u + 1013904223u;
            noise[k] = (uint8_t)(seed >> 24);
        }
        wire_put_video(
            &b, &(struct wire_video){90000 + i * 3000, 0, i % 30 == 0, noise, sizeof(noise)});
    }
    wire_put_empty(&b, WIRE_FINISH);
    struct output out = run_worker(&b);
    assert_int_equal(out.status, 0);
    summarise(&out, &s);
    assert_int_equal(s.ends, 1);
    summary_close(&s);
    bytes_close(&out.all);
    bytes_close(&b);
    bytes_close(&in.all);
}

static void worker__says_when_there_is_only_sound(void **state)
{
    (void)state;
    struct bytes b;
    struct summary s;
    struct wire_start start = start_message(0);
    static const uint8_t aac[] = {0x11, 0x90}, frame[] = {0x21, 0x10};
    bytes_init(&b, 1u << 20);
    wire_put_start(&b, &start);
    wire_put_config(&b, WIRE_AUDIO_CONFIG, aac, sizeof(aac));
    for (int64_t i = 0; i < 600; i++) {
        wire_put_audio(&b, &(struct wire_audio){i * 1024, frame, sizeof(frame)});
    }
    struct output out = run_worker(&b);
    summarise(&out, &s);
    assert_string_equal(s.error, "the encoder sends no video");
    summary_close(&s);
    bytes_close(&out.all);
    bytes_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worker__makes_source_and_rung_with_the_same_numbers),
        cmocka_unit_test(worker__never_scales_up),
        cmocka_unit_test(worker__goes_on_where_another_one_stopped_with_the_same_bytes),
        cmocka_unit_test(worker__goes_on_with_a_rung_that_counts_differently),
        cmocka_unit_test(worker__refuses_a_broken_configuration_in_words),
        cmocka_unit_test(worker__survives_frames_that_are_not_video),
        cmocka_unit_test(worker__says_when_there_is_only_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
