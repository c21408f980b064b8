/* A node whose copies are not what they should be, among peers that answer well, badly or not at
 * all. Bytes follow from an object's name, so that anybody can say what is right. */
#ifndef TESTS_UNIT_COPIES_KEEPER_H
#define TESTS_UNIT_COPIES_KEEPER_H

#include <jansson.h>
#include <uv.h>

#include "base/env_uv.h"
#include "nodes/copies/copies_priv.h"

#include "../lifecycle/lifecycle_feed.h"

#define N          3
#define PART_BYTES 1000u
#define PARTS      4u
#define SECRET     "sesame-sesame-sesame"

enum peer_mode { PEER_GOOD, PEER_FAILS, PEER_LIES, PEER_SHORT, PEER_SILENT, PEER_STOREROOM };
struct peer {
    struct http_server *server;
    enum peer_mode mode;
    unsigned n_gets, n_held;
};

extern uv_loop_t loop;
extern struct env *env;
extern struct config config;
extern struct node node;
extern struct peer peers[N]; /* [0] serves the node under test itself */
extern struct lifecycle_feed feed;
extern struct copies *copies; /* NULL: not started */
/* What a test says before start(): is there scrubbing; do timeouts count, or is nobody ever late.
 */
extern bool scrubs, notices_silence;

int keeper_setup(void **state);
int keeper_teardown(void **state);
void open_store(uint64_t free_bytes_min);
void close_store(void);
void start(void);
void stop(void);
void peer_close(struct peer *p);
/* Until so many more have ended. */
void run_looks(unsigned n);
void run_scrubs(unsigned n);

struct http_body *bytes_of(const char *object, uint64_t position, uint64_t size);
uint8_t byte_of(const char *object, uint64_t at);
/* A whole segment in the log whose parts two nodes hold. */
void commit(uint64_t msn, const char *a, const char *b);
/* Parts [first, end) of it on this node's disk. */
void put(uint64_t msn, unsigned first, unsigned end);
/* Until the next call. */
const char *object_of(uint64_t msn);
const char *path_of(uint64_t msn, const char *end);
/* This node's own, with bytes as they should be. */
bool is_whole(uint64_t msn);
bool is_there(uint64_t msn);
/* What GET says; to be json_decref'd. */
json_t *ask(const char *path);

#define TEST(f) cmocka_unit_test_setup_teardown(f, keeper_setup, keeper_teardown)

#endif
