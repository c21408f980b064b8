/* clock_picture WIDTH HEIGHT FPS: raw yuv420p frames on standard output, paced by the wall clock,
 * each carrying the time of its making as bright and dark cells, so that whoever shows the picture
 * shows how old it is.
 *
 * 20 x 3 cells over the top quarter of the picture:
 *   cell  0.. 3  1 0 1 0
 *   cell  4..47  milliseconds since 1970, 44 bits, most significant first
 *   cell 48..55  exclusive or of 0xa5 and the six bytes of that number
 *   cell 56..59  0 1 0 1 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CELLS_X   20u
#define CELLS_Y   3u
#define TIME_BITS 44u
#define SUM_CELL  48u
#define END_CELL  56u
#define NS_PER_S  1000000000ull
#define BRIGHT    235
#define DARK      16
#define SIDE_MAX  4096u
#define RATE_MAX  240u

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t due_ns)
{
    struct timespec t = {.tv_sec = (time_t)(due_ns / NS_PER_S),
                         .tv_nsec = (long)(due_ns % NS_PER_S)};
    while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL) == EINTR) {}
}

static bool cell_bright(uint64_t ms, unsigned cell)
{
    if (cell < 4) {
        return cell % 2 == 0;
    }
    if (cell < SUM_CELL) {
        return (ms >> (TIME_BITS - 1 - (cell - 4)) & 1) != 0;
    }
    if (cell >= END_CELL) {
        return cell % 2 == 1;
    }
    unsigned sum = 0xa5;
    for (unsigned i = 0; i < 6; i++) {
        sum ^= (unsigned)(ms >> (8 * i)) & 0xffu;
    }
    return (sum >> (END_CELL - 1 - cell) & 1) != 0;
}

/* A slow pattern below the cells: something for the encoder to do, the same in every run. */
static void draw_ground(uint8_t *luma, unsigned width, unsigned height, unsigned frame)
{
    for (unsigned y = height / 4; y < height; y++) {
        for (unsigned x = 0; x < width; x++) {
            luma[(size_t)y * width + x] =
                (uint8_t)(60 + ((x + 3 * frame) & 127) / 2 + ((2 * y + frame) & 63));
        }
    }
}

static void draw_clock(uint8_t *luma, unsigned width, unsigned height, uint64_t ms)
{
    unsigned cell_width = width / CELLS_X, cell_height = height / 4 / CELLS_Y;
    for (unsigned i = 0; i < CELLS_X * CELLS_Y; i++) {
        uint8_t *at = luma + (size_t)(i / CELLS_X * cell_height) * width + i % CELLS_X * cell_width;
        for (unsigned y = 0; y < cell_height; y++) {
            memset(at + (size_t)y * width, cell_bright(ms, i) ? BRIGHT : DARK, cell_width);
        }
    }
}

static bool parse(const char *text, unsigned max, unsigned *ret_value)
{
    char *end = NULL;
    unsigned long v = strtoul(text, &end, 10);
    *ret_value = (unsigned)v;
    return end != text && *end == '\0' && v > 0 && v <= max;
}

int main(int argc, char **argv)
{
    unsigned width = 0, height = 0, fps = 0;
    if (argc != 4 || !parse(argv[1], SIDE_MAX, &width) || !parse(argv[2], SIDE_MAX, &height) ||
        !parse(argv[3], RATE_MAX, &fps) || width % CELLS_X != 0 || height % (4 * CELLS_Y) != 0) {
        (void)fprintf(stderr, "usage: clock_picture WIDTH HEIGHT FPS (multiples of 20 and 12)\n");
        return 2;
    }
    size_t luma_size = (size_t)width * height, size = luma_size * 3 / 2;
    uint8_t *picture = malloc(size);
    if (picture == NULL) {
        (void)fprintf(stderr, "clock_picture: out of memory\n");
        return 1;
    }
    memset(picture, 128, size);
    uint64_t begin_ns = now_ns();
    for (unsigned frame = 0;; frame++) {
        sleep_until(begin_ns + frame * NS_PER_S / fps);
        draw_ground(picture, width, height, frame);
        draw_clock(picture, width, height, now_ns() / 1000000); /* as late as can be */
        if (fwrite(picture, 1, size, stdout) != size || fflush(stdout) != 0) {
            free(picture);
            return 0; /* the reader has enough */
        }
    }
}
