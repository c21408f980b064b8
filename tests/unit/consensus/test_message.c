#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "consensus/entry_heap.h"
#include "consensus/message.h"

static struct bytes body;
static const char attachment[] = "first!second";

static int setup(void **state)
{
    (void)state;
    entry_heap_install();
    bytes_init(&body, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    bytes_close(&body);
    return 0;
}

/* Two entries, "first!" and "second". */
static void encode_append(void)
{
    char copy[sizeof(attachment)];
    memcpy(copy, attachment, sizeof(copy));
    struct raft_entry entries[2] = {
        {.term = 3, .type = RAFT_COMMAND, .buf = {.base = copy, .len = 6}},
        {.term = 4, .type = RAFT_BARRIER, .buf = {.base = copy + 6, .len = 6}},
    };
    struct raft_append_entries a = {
        .term = 5,
        .prev_log_index = 10,
        .prev_log_term = 2,
        .leader_commit = 11,
        .entries = entries,
        .n_entries = 2,
    };
    message_encode_append(&body, &a, 99);
    assert_int_equal(bytes_error(&body), 0);
}

static int decode(uint16_t type, struct message *m, struct error *err)
{
    return message_decode(type, body.data, body.len, attachment, sizeof(attachment) - 1, m, err);
}

static void append__comes_back_as_it_was(void **state)
{
    (void)state;
    struct message m;
    struct error err;
    encode_append();
    assert_int_equal(decode(PEER_APPEND, &m, &err), 0);
    const struct raft_append_entries *a = &m.raft.append_entries;
    assert_int_equal(m.raft.type, RAFT_IO_APPEND_ENTRIES);
    assert_int_equal(a->term, 5);
    assert_int_equal(a->prev_log_index, 10);
    assert_int_equal(a->prev_log_term, 2);
    assert_int_equal(a->leader_commit, 11);
    assert_int_equal(m.log_commit, 99);
    assert_int_equal(m.end_term, 4);
    assert_int_equal(a->n_entries, 2);
    assert_int_equal(a->entries[1].type, RAFT_BARRIER);
    assert_memory_equal(a->entries[0].buf.base, "first!", 6);
    assert_memory_equal(a->entries[1].buf.base, "second", 6);
    assert_ptr_equal(a->entries[0].batch, a->entries[1].batch);
    message_release(&m);
}

static void append__has_the_bytes_of_the_golden_file(void **state)
{
    (void)state;
    uint8_t golden[256];
    FILE *f = fopen("tests/golden/consensus/append_v1.bin", "rb");
    encode_append();
    assert_non_null(f);
    size_t n = fread(golden, 1, sizeof(golden), f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, body.len);
    assert_memory_equal(golden, body.data, n);
}

/* --- All messages, one behind the other --- */

static struct bytes all;

/* type u16, length u16, body */
static void add(uint16_t type)
{
    assert_int_equal(bytes_error(&body), 0);
    bytes_put_le16(&all, type);
    bytes_put_le16(&all, (uint16_t)body.len);
    bytes_put(&all, body.data, body.len);
    bytes_reset(&body);
}

static void add_votes_and_results(void)
{
    struct raft_message m = {.type = RAFT_IO_REQUEST_VOTE,
                             .request_vote = {.term = 1,
                                              .candidate_id = 2,
                                              .last_log_index = 3,
                                              .last_log_term = 4,
                                              .disrupt_leader = true}};
    message_encode(&body, &m);
    add(PEER_VOTE);
    m = (struct raft_message){
        .type = RAFT_IO_REQUEST_VOTE_RESULT,
        .request_vote_result = {.term = 5, .vote_granted = true, .pre_vote = raft_tribool_true}};
    message_encode(&body, &m);
    add(PEER_VOTE_RESULT);
    m = (struct raft_message){.type = RAFT_IO_APPEND_ENTRIES_RESULT,
                              .append_entries_result = {.term = 6, .last_log_index = 7}};
    message_encode(&body, &m);
    add(PEER_APPEND_RESULT);
    m = (struct raft_message){.type = RAFT_IO_TIMEOUT_NOW,
                              .timeout_now = {.term = 8, .last_log_index = 9, .last_log_term = 10}};
    message_encode(&body, &m);
    add(PEER_TIMEOUT_NOW);
}

static void add_with_configuration(void)
{
    struct raft_message m = {
        .type = RAFT_IO_INSTALL_SNAPSHOT,
        .install_snapshot = {.term = 11, .last_index = 12, .last_term = 10, .conf_index = 9}};
    struct raft_configuration *conf = &m.install_snapshot.conf;
    raft_configuration_init(conf);
    assert_int_equal(raft_configuration_add(conf, 1, "1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(conf, 2, "22", RAFT_STANDBY), 0);
    message_encode(&body, &m);
    add(PEER_INSTALL);
    message_encode_state(&body, &(struct peer_state){.nonce = 15,
                                                     .kind = PEER_FOUNDED,
                                                     .term = 16,
                                                     .leading = true,
                                                     .commit = 17,
                                                     .founders = 18,
                                                     .configuration = *conf});
    add(PEER_STATE);
    raft_configuration_close(conf);
}

static void add_our_own(void)
{
    message_encode_fetch(&body, &(struct peer_fetch){.term = 19, .first = 20});
    add(PEER_FETCH);
    message_encode_refused(&body, &(struct peer_refused){21, 22, WEIR_ECORRUPT, 23});
    add(PEER_FETCH_REFUSED);
    message_encode_term(&body, 24);
    add(PEER_LEADER_GONE);
    message_encode_read(&body, &(struct peer_read){25, 26});
    add(PEER_READ_ASK);
    message_encode_read(&body, &(struct peer_read){27, 28});
    add(PEER_READ);
    message_encode_state_ask(&body, &(struct peer_state_ask){29, 30, true, false, true});
    add(PEER_STATE_ASK);
    message_encode_repair_ask(&body, &(struct peer_repair_ask){31, 32, 33, 34});
    add(PEER_REPAIR_ASK);
    message_encode_repair(
        &body, &(struct peer_repair){.first = 35, .matched = true, .commit = 36, .begins = 1});
    add(PEER_REPAIR);
    message_encode_compacted(&body, &(struct peer_compacted){37, 38, 39, 40, 39, true});
    add(PEER_COMPACTED);
}

/* What another build of this link version sends: a change of these bytes needs another version. */
/* The file, which has to be as the bytes are; how many. */
static size_t golden_bytes(const char *name, const struct bytes *made, uint8_t *ret_golden,
                           size_t size)
{
    char path[80];
    (void)snprintf(path, sizeof(path), "tests/golden/consensus/%s", name);
    FILE *f = fopen(path, "rbe");
    assert_non_null(f);
    size_t n = fread(ret_golden, 1, size, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, made->len);
    assert_memory_equal(ret_golden, made->data, n);
    return n;
}

static void every_message__has_the_bytes_of_the_golden_file_and_is_understood(void **state)
{
    (void)state;
    uint8_t golden[2048];
    struct error err = {0};
    bytes_init(&all, sizeof(golden));
    add_votes_and_results();
    add_with_configuration();
    add_our_own();
    size_t n = golden_bytes("link_v2.bin", &all, golden, sizeof(golden));
    for (size_t at = 0; at < n;) {
        struct message m;
        uint16_t type = (uint16_t)(golden[at] | golden[at + 1] << 8);
        size_t len = (size_t)(golden[at + 2] | golden[at + 3] << 8);
        if (message_decode(type, golden + at + 4, len, NULL, 0, &m, &err) != 0) {
            fail_msg("type %u: %s", type, err.text);
        }
        assert_int_equal(m.type, type);
        message_release(&m);
        at += 4 + len;
    }
    bytes_close(&all);
}

/* An answer that an older build never asks for. */
static void repair__tells_where_the_log_begins_as_in_the_golden_file(void **state)
{
    (void)state;
    uint8_t golden[256];
    struct message m;
    struct error err;
    struct peer_repair repair = {
        .first = 35,
        .commit = 36,
        .begins = 37,
        .begin = {.first_index = {37},
                  .prev_term = {38},
                  .first_offset = {39},
                  .start_offset = {50},
                  .time_ms = 40,
                  .config_index = {31}},
    };
    message_encode_repair(&body, &repair);
    assert_int_equal(bytes_error(&body), 0);
    size_t n = golden_bytes("repair_begin_v2.bin", &body, golden, sizeof(golden));
    assert_int_equal(message_decode(PEER_REPAIR, golden, n, NULL, 0, &m, &err), 0);
    repair.begin.start_offset = repair.begin.first_offset;
    assert_memory_equal(&m.repair.begin, &repair.begin, sizeof(repair.begin));
    assert_int_equal(m.repair.n, 0);
    message_release(&m);
    for (size_t len = 0; len < n; len++) {
        bool plain = len == n - 32; /* the begin is left out */
        assert_int_equal(message_decode(PEER_REPAIR, golden, len, NULL, 0, &m, &err) == 0, plain);
    }
    assert_int_equal(message_decode(PEER_REPAIR, golden, n, "x", 1, &m, &err), WEIR_EPROTO);
    golden[17] = 1; /* entry 1 */
    assert_int_equal(message_decode(PEER_REPAIR, golden, n, NULL, 0, &m, &err), WEIR_EPROTO);
}

static void append__is_refused_when_a_payload_changed(void **state)
{
    (void)state;
    struct message m;
    struct error err;
    encode_append();
    assert_int_equal(message_decode(PEER_APPEND, body.data, body.len, "first!sECond", 12, &m, &err),
                     WEIR_ECORRUPT);
    assert_string_equal(err.text, "entry 1 of 2: bad checksum");
}

static void append__is_refused_when_cut_or_too_long(void **state)
{
    (void)state;
    struct message m;
    encode_append();
    for (size_t len = 0; len < body.len; len++) {
        assert_int_equal(message_decode(PEER_APPEND, body.data, len, attachment, 12, &m, NULL),
                         WEIR_EPROTO);
    }
    for (size_t len = 0; len < 12; len++) {
        assert_true(message_decode(PEER_APPEND, body.data, body.len, attachment, len, &m, NULL) <
                    0);
    }
    assert_int_equal(message_decode(PEER_APPEND, body.data, body.len, attachment, 13, &m, NULL),
                     WEIR_EPROTO);
    bytes_put_u8(&body, 0);
    assert_int_equal(decode(PEER_APPEND, &m, NULL), WEIR_EPROTO);
}

static void append__is_refused_with_an_entry_of_a_later_term(void **state)
{
    (void)state;
    struct message m;
    struct error err;
    encode_append();
    body.data[0] = 3; /* the message's term; the second entry has 4 */
    assert_int_equal(decode(PEER_APPEND, &m, &err), WEIR_EPROTO);
}

static void small_messages__come_back_as_they_were(void **state)
{
    (void)state;
    struct message m;
    struct raft_message out = {.type = RAFT_IO_REQUEST_VOTE};
    out.request_vote = (struct raft_request_vote){.term = 1,
                                                  .candidate_id = 2,
                                                  .last_log_index = 3,
                                                  .last_log_term = 4,
                                                  .disrupt_leader = false,
                                                  .pre_vote = true};
    message_encode(&body, &out);
    assert_int_equal(message_decode(PEER_VOTE, body.data, body.len, NULL, 0, &m, NULL), 0);
    assert_int_equal(m.raft.request_vote.candidate_id, 2);
    assert_int_equal(m.raft.request_vote.last_log_term, 4);
    assert_true(m.raft.request_vote.pre_vote);
    assert_false(m.raft.request_vote.disrupt_leader);

    bytes_reset(&body);
    out = (struct raft_message){.type = RAFT_IO_REQUEST_VOTE_RESULT};
    out.request_vote_result = (struct raft_request_vote_result){
        .term = 9, .vote_granted = true, .pre_vote = raft_tribool_false};
    message_encode(&body, &out);
    assert_int_equal(message_decode(PEER_VOTE_RESULT, body.data, body.len, NULL, 0, &m, NULL), 0);
    assert_true(m.raft.request_vote_result.vote_granted);
    assert_int_equal(m.raft.request_vote_result.pre_vote, raft_tribool_false);

    bytes_reset(&body);
    out = (struct raft_message){.type = RAFT_IO_APPEND_ENTRIES_RESULT};
    out.append_entries_result =
        (struct raft_append_entries_result){.term = 1, .rejected = 2, .last_log_index = 3};
    message_encode(&body, &out);
    assert_int_equal(message_decode(PEER_APPEND_RESULT, body.data, body.len, NULL, 0, &m, NULL), 0);
    assert_int_equal(m.raft.append_entries_result.rejected, 2);
    assert_int_equal(message_decode(PEER_VOTE, body.data, body.len, NULL, 0, &m, NULL),
                     WEIR_EPROTO);
    assert_int_equal(message_decode(200, body.data, body.len, NULL, 0, &m, NULL), WEIR_EPROTO);
}

static void questions_of_a_read_and_refusals__come_back_as_they_were(void **state)
{
    (void)state;
    struct message m;
    message_encode_read(&body, &(struct peer_read){.term = 5, .stamp = 77});
    assert_int_equal(message_decode(PEER_READ_ASK, body.data, body.len, NULL, 0, &m, NULL), 0);
    assert_int_equal(m.read.term, 5);
    assert_int_equal(m.read.stamp, 77);
    assert_int_equal(message_decode(PEER_READ, body.data, body.len - 1, NULL, 0, &m, NULL),
                     WEIR_EPROTO);

    bytes_reset(&body);
    message_encode_refused(
        &body,
        &(struct peer_refused){.term = 5, .first = 9, .status = WEIR_ECORRUPT, .available = 4});
    assert_int_equal(message_decode(PEER_FETCH_REFUSED, body.data, body.len, NULL, 0, &m, NULL), 0);
    assert_int_equal(m.refused.first, 9);
    assert_int_equal(m.refused.status, WEIR_ECORRUPT);
    assert_int_equal(m.refused.available, 4);
}

static void compaction_marks__come_back_as_they_were(void **state)
{
    (void)state;
    struct message m;
    struct peer_compacted out = {5, 99, 1000, 77, 900, true};
    message_encode_compacted(&body, &out);
    assert_int_equal(message_decode(PEER_COMPACTED, body.data, body.len, NULL, 0, &m, NULL), 0);
    assert_int_equal(m.compacted.term, 5);
    assert_int_equal(m.compacted.commit, 99);
    assert_int_equal(m.compacted.upto, 1000);
    assert_int_equal(m.compacted.tombstones_ms, 77);
    assert_int_equal(m.compacted.clean, 900);
    assert_true(m.compacted.waits);
    for (size_t len = 0; len < body.len; len++) {
        assert_int_equal(message_decode(PEER_COMPACTED, body.data, len, NULL, 0, &m, NULL),
                         WEIR_EPROTO);
    }
    bytes_reset(&body);
    out.clean = 1001;
    message_encode_compacted(&body, &out);
    assert_int_equal(message_decode(PEER_COMPACTED, body.data, body.len, NULL, 0, &m, NULL),
                     WEIR_EPROTO);
}

static void install__carries_the_configuration(void **state)
{
    (void)state;
    struct message m;
    struct raft_message out = {.type = RAFT_IO_INSTALL_SNAPSHOT};
    struct raft_install_snapshot *s = &out.install_snapshot;
    *s =
        (struct raft_install_snapshot){.term = 7, .last_index = 8, .last_term = 6, .conf_index = 1};
    raft_configuration_init(&s->conf);
    assert_int_equal(raft_configuration_add(&s->conf, 1, "one", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_add(&s->conf, 2, "two", RAFT_STANDBY), 0);
    message_encode(&body, &out);
    raft_configuration_close(&s->conf);
    assert_int_equal(message_decode(PEER_INSTALL, body.data, body.len, NULL, 0, &m, NULL), 0);
    const struct raft_configuration *conf = &m.raft.install_snapshot.conf;
    assert_int_equal(conf->n, 2);
    assert_int_equal(conf->servers[1].id, 2);
    assert_string_equal(conf->servers[1].address, "two");
    assert_int_equal(conf->servers[1].role, RAFT_STANDBY);
    message_release(&m);
    for (size_t len = 0; len < body.len; len++) {
        assert_int_equal(message_decode(PEER_INSTALL, body.data, len, NULL, 0, &m, NULL),
                         WEIR_EPROTO);
    }
}

static void pinned_memory__outlives_its_owner(void **state)
{
    (void)state;
    char *p = raft_malloc(16);
    memcpy(p, "still here", 11);
    entry_heap_pin(p);
    raft_free(p);
    assert_string_equal(p, "still here");
    entry_heap_unpin(p);
    p = raft_realloc(NULL, 8);
    p = raft_realloc(p, 100000);
    memset(p, 1, 100000);
    raft_free(p);
    assert_null(entry_heap_zalloc(SIZE_MAX / 2, 4));
}

static void state__comes_back_as_it_was(void **state)
{
    (void)state;
    struct message m;
    struct error err;
    struct peer_state_ask ask = {.nonce = 7, .founders = 8, .lost = true, .marked = true};
    message_encode_state_ask(&body, &ask);
    assert_int_equal(message_decode(PEER_STATE_ASK, body.data, body.len, NULL, 0, &m, &err), 0);
    assert_int_equal(m.ask.nonce, 7);
    assert_int_equal(m.ask.founders, 8);
    assert_true(m.ask.lost && !m.ask.voter && m.ask.marked);
    message_release(&m);

    struct peer_state told = {
        .nonce = 7, .kind = PEER_FOUNDED, .term = 9, .leading = true, .commit = 11, .founders = 8};
    raft_configuration_init(&told.configuration);
    assert_int_equal(raft_configuration_add(&told.configuration, 3, "3", RAFT_VOTER), 0);
    bytes_close(&body);
    bytes_init(&body, 1 << 20);
    message_encode_state(&body, &told);
    raft_configuration_close(&told.configuration);
    for (size_t len = 0; len <= body.len; len++) {
        int rv = message_decode(PEER_STATE, body.data, len, NULL, 0, &m, &err);
        assert_int_equal(rv, len == body.len ? 0 : WEIR_EPROTO);
    }
    assert_int_equal(m.state.kind, PEER_FOUNDED);
    assert_int_equal(m.state.term, 9);
    assert_int_equal(m.state.commit, 11);
    assert_true(m.state.leading && !m.state.welcome);
    assert_int_equal(m.state.configuration.n, 1);
    assert_int_equal(m.state.configuration.servers[0].id, 3);
    message_release(&m);
}

/* libraft pads to whole words and leaves the padding as it was. */
static void configuration__is_encoded_without_what_was_in_memory(void **state)
{
    (void)state;
    struct raft_configuration conf;
    struct raft_buffer buf[2];
    raft_configuration_init(&conf);
    assert_int_equal(raft_configuration_add(&conf, 1, "1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_encode(&conf, &buf[0]), 0);
    size_t used = 1 + 8 + 8 + 2 + 1; /* version, number; id, address, role: message.h */
    assert_int_equal(buf[0].len, 24);
    memset((uint8_t *)buf[0].base + used, 0xff, buf[0].len - used);
    raft_free(buf[0].base);
    assert_int_equal(raft_configuration_encode(&conf, &buf[1]), 0);
    for (size_t i = used; i < buf[1].len; i++) {
        assert_int_equal(((uint8_t *)buf[1].base)[i], 0);
    }
    raft_free(buf[1].base);
    raft_configuration_close(&conf);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(state__comes_back_as_it_was),
        TEST(append__comes_back_as_it_was),
        TEST(append__has_the_bytes_of_the_golden_file),
        TEST(every_message__has_the_bytes_of_the_golden_file_and_is_understood),
        TEST(repair__tells_where_the_log_begins_as_in_the_golden_file),
        TEST(append__is_refused_when_a_payload_changed),
        TEST(append__is_refused_when_cut_or_too_long),
        TEST(append__is_refused_with_an_entry_of_a_later_term),
        TEST(small_messages__come_back_as_they_were),
        TEST(questions_of_a_read_and_refusals__come_back_as_they_were),
        TEST(compaction_marks__come_back_as_they_were),
        TEST(install__carries_the_configuration),
        TEST(pinned_memory__outlives_its_owner),
        TEST(configuration__is_encoded_without_what_was_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
