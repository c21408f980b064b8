/* What administrators ask, and are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "harness.h"

/* Asks broker i to remove node n as one that is dead. */
static int remove_dead(struct harness *h, unsigned i, unsigned n, char *ret_text, size_t size)
{
    Weir__ClusterChange m = WEIR__CLUSTER_CHANGE__INIT;
    struct answer a = {0};
    char name[16];
    (void)snprintf(name, sizeof(name), "n%u", n + 1);
    m.action = WEIR__CLUSTER_CHANGE__ACTION__REMOVE;
    m.name = name;
    m.dead = true;
    struct broker_link *link = harness_link(h, i);
    harness_ask(h, link, BROKER_CLUSTER_CHANGE, &m.base, NULL, 0, BROKER_CLUSTER_CHANGED, &a);
    harness_close_link(h, link);
    (void)snprintf(ret_text, size, "%s", a.text);
    bytes_close(&a.attachment);
    return a.status;
}

/* It has not heard of anybody yet: nobody is dead for that. */
static void a_new_controller__takes_nobody_for_dead(void **state)
{
    struct harness h;
    char text[ERROR_TEXT_MAX];
    (void)state;
    harness_open(&h, "log.replicas = 2\nlog.topic = meta partitions=1\n");
    harness_until_founded(&h);
    unsigned gone = harness_controller(&h), i = (gone + 1) % HARNESS_NODES,
             k = (gone + 2) % HARNESS_NODES;
    harness_stop_broker(&h, gone);
    int status = WEIR_ENOTLEADER;
    while (status == WEIR_ENOTLEADER) {
        unsigned other = i;
        i = k;
        k = other;
        status = remove_dead(&h, i, k, text, sizeof(text)); /* who is asked lives, and so does k */
    }
    assert_int_equal(status, WEIR_EBUSY);
    assert_non_null(strstr(text, "just begun"));
    while ((status = remove_dead(&h, i, k, text, sizeof(text))) == WEIR_EBUSY) {}
    assert_int_equal(status, WEIR_EINVAL);
    assert_non_null(strstr(text, "is alive"));
    harness_close(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_controller__takes_nobody_for_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
