/* All that the view names in the segment store, page by page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lifecycle_feed.h"

#define MET_MAX 64

static struct lifecycle_feed feed;

static int setup(void **state)
{
    (void)state;
    feed_open(&feed);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    feed_close(&feed);
    return 0;
}

struct met {
    unsigned n, n_segments, refuse_after;
    char names[MET_MAX][LIFECYCLE_OBJECT_MAX + 1];
    struct lifecycle_object object; /* the last one that was no segment */
};

static int meet(void *data, const struct lifecycle_stored *stored)
{
    struct met *m = data;
    if (m->refuse_after > 0 && m->n == m->refuse_after) {
        return WEIR_ENOMEM;
    }
    assert_true((stored->segment == NULL) != (stored->object == NULL));
    const char *name;
    if (stored->segment != NULL) {
        name = stored->segment->extents[0].object;
        m->n_segments++;
    } else {
        name = stored->object->name;
        m->object = *stored->object;
    }
    for (unsigned i = 0; i < m->n; i++) {
        assert_string_not_equal(m->names[i], name);
    }
    assert_true(m->n < MET_MAX);
    (void)snprintf(m->names[m->n++], sizeof(m->names[0]), "%s", name);
    return 0;
}

/* Two renditions of 5 and 3 segments, their init segments, a thumbnail. */
static void feed_all(void)
{
    feed_live(&feed);
    assert_int_equal(feed_start(&feed, 1, 0, false), VERDICT_OK);
    feed_segments(&feed, 0, 0, 5);
    feed_segments(&feed, 1, 0, 3);
    assert_int_equal(feed_thumbnail(&feed, "0000000000000abc/thumb.jpg"), VERDICT_OK);
}

static void walk__of_an_empty_view_ends_at_once(void **state)
{
    (void)state;
    struct met m = {0};
    struct lifecycle_place place = {0};
    assert_int_equal(lifecycle_walk(feed.views, &place, 10, meet, &m), 0);
    assert_int_equal(m.n, 0);
}

static void walk__meets_everything_once_in_pages_of_any_size(void **state)
{
    (void)state;
    feed_all();
    for (unsigned max = 1; max <= 12; max++) {
        struct met m = {0};
        struct lifecycle_place place = {0};
        unsigned pages = 1;
        while (lifecycle_walk(feed.views, &place, max, meet, &m) == 1) {
            assert_true(m.n <= pages * max);
            pages++;
        }
        assert_int_equal(m.n, 8 + 2 + 1);
        assert_int_equal(m.n_segments, 8);
    }
}

static void walk__goes_on_while_the_view_changes(void **state)
{
    (void)state;
    feed_all();
    struct met m = {0};
    struct lifecycle_place place = {0};
    assert_int_equal(lifecycle_walk(feed.views, &place, 5, meet, &m), 1);
    feed_segments(&feed, 1, 3, 2);
    assert_int_equal(feed_end(&feed, feed.session), VERDICT_OK);
    while (lifecycle_walk(feed.views, &place, 2, meet, &m) == 1) {}
    assert_int_equal(m.n, 8 + 2 + 2 + 1);
}

static void walk__stays_before_what_was_refused(void **state)
{
    (void)state;
    feed_all();
    struct met m = {.refuse_after = 4};
    struct lifecycle_place place = {0};
    assert_int_equal(lifecycle_walk(feed.views, &place, 20, meet, &m), WEIR_ENOMEM);
    m.refuse_after = 0;
    assert_int_equal(lifecycle_walk(feed.views, &place, 20, meet, &m), 0);
    assert_int_equal(m.n, 11);
}

static void walk__from_a_letter_meets_channels_behind_it(void **state)
{
    (void)state;
    feed_all(); /* channel "demo" */
    struct met m = {0};
    struct lifecycle_place place = lifecycle_place_from(0, 'd');
    assert_int_equal(lifecycle_walk(feed.views, &place, 20, meet, &m), 0);
    assert_int_equal(m.n_segments, 8);
    struct met later = {0};
    place = lifecycle_place_from(0, 'e');
    assert_int_equal(lifecycle_walk(feed.views, &place, 20, meet, &later), 0);
    assert_int_equal(later.n, 0);
}

static void walk__knows_the_crc_that_the_record_says(void **state)
{
    (void)state;
    struct met m = {0};
    struct lifecycle_place place = {0};
    assert_int_equal(feed_claim(&feed, "n1", FEED_BROADCAST), VERDICT_OK);
    assert_int_equal(feed_assign(&feed, feed.session, "n2"), VERDICT_OK);
    Weir__RenditionStart start = feed_start_of(&feed, 0, 0);
    start.init_crc32c = 0x1234;
    assert_int_equal(feed_start_record(&feed, &start), VERDICT_OK);
    assert_int_equal(lifecycle_walk(feed.views, &place, 20, meet, &m), 0);
    assert_true(m.object.has_crc);
    assert_int_equal(m.object.crc32c, 0x1234);
    /* Records of before have none. */
    assert_int_equal(feed_start(&feed, 1, 0, false), VERDICT_OK);
    assert_int_equal(lifecycle_walk(feed.views, &place, 20, meet, &m), 0);
    struct met again = {0};
    place = (struct lifecycle_place){0};
    assert_int_equal(lifecycle_walk(feed.views, &place, 20, meet, &again), 0);
    assert_int_equal(again.n, 2);
    assert_false(again.object.has_crc);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(walk__of_an_empty_view_ends_at_once),
        TEST(walk__meets_everything_once_in_pages_of_any_size),
        TEST(walk__goes_on_while_the_view_changes),
        TEST(walk__stays_before_what_was_refused),
        TEST(walk__from_a_letter_meets_channels_behind_it),
        TEST(walk__knows_the_crc_that_the_record_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
