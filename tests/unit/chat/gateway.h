/* The gateway as clients meet it: real sockets, real views fed by hand. What a client submits is
 * folded at once, or when the test says so. */
#ifndef TESTS_CHAT_GATEWAY_H
#define TESTS_CHAT_GATEWAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <uv.h>

#include "../run_until.h"
#include "net/ws_client.h"
#include "nodes/role.h"
#include "views/accounts.h"
#include "views/chat.h"

#define RECEIVED_MAX 20000

extern uv_loop_t loop;
extern struct env *env;
extern struct node node;
extern struct config config;
extern void *role;
extern struct http_client *http;
extern char tokens[3][ACCOUNT_SECRET_MAX]; /* owner, alice, bob */
extern bool stopped, closed;

int gateway_setup(void **state);
int gateway_teardown(void **state);
#define GATEWAY_TEST(f) cmocka_unit_test_setup_teardown(f, gateway_setup, gateway_teardown)
/* Sets the bool at `data`. */
void on_done(void *data);

/* Instead of the cluster: what was submitted is in the log in the loop's next turn, or twice, or
 * when the test takes it. */
struct pending {
    struct env_defer defer;
    struct view_submit *req;
    view_submit_cb cb;
    uint8_t value[4096];
    size_t n;
};
extern struct pending pending[64];
extern unsigned n_pending;
extern bool hold, twice;
void pending_fold(struct pending *p);

struct client {
    struct ws_client *ws;
    json_t *received[RECEIVED_MAX];
    unsigned n, taken;
    bool open, closed;
    int status;
};

void on_opened(void *data, struct ws_client *ws);
void on_message(void *data, struct ws_client *ws, const char *text, size_t n);
void on_client_closed(void *data, struct ws_client *ws, int status);
struct client *client_dial(void);
void client_free(struct client *c);
/* Dials and hears the welcome. */
struct client *client_open(void);
/* Asks to join "room", with more members in the request. */
struct client *client_join(const char *more);
/* Logged in with tokens[who]. */
struct client *client_auth(unsigned who);
void say(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The next thing heard, which must be of this type. */
json_t *hear(struct client *c, const char *type);
void hear_error(struct client *c, const char *code);
/* Says ping and hears pong: nothing else had been on the way. */
void hear_nothing(struct client *c);
const char *member(const json_t *json, const char *name);
int64_t number(const json_t *json, const char *name);
bool is_true(const json_t *json, const char *name);

#endif
