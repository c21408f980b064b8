#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"

#define BASE                                                                                       \
    "node.name = n1\n"                                                                             \
    "node.data = /tmp/n1 # where\n"                                                                \
    "cluster.secret = 0123456789abcdef#x\n"
#define NODE1 "cluster.node = n1 id=1 peer=127.0.0.1:1 broker=localhost:2 http=[::1]:3 rtmp=h:4\n"
#define TLS   "tls.ca = ca\ntls.cert = cert\ntls.key = key\n"
#define NODE2 "cluster.node = n2 id=2 peer=127.0.0.1:5 broker=localhost:6 http=h:7 rtmp=h:8\n"

static struct config config;
static struct error err;

static void parse__fills_defaults_and_values(void **state)
{
    (void)state;
    assert_int_equal(config_parse("f",
                                  BASE NODE1 NODE2 "log.topic = chat partitions=3\n"
                                                   "chat.rate_ms=250\r\n"
                                                   "node.roles = log, edge\n"
                                                   "listen.http = 0.0.0.0:80\n",
                                  &config, &err),
                     0);
    assert_string_equal(config.data_dir, "/tmp/n1");
    assert_string_equal(config.secret, "0123456789abcdef#x");
    assert_int_equal(config.roles, CONFIG_ROLE_LOG | CONFIG_ROLE_EDGE);
    assert_int_equal(config.chat_rate_ms, 250);
    assert_int_equal(config.log_segment_mib, 64);
    assert_int_equal(config.log_level, 2);
    assert_int_equal(config.n_topics, 2);
    assert_int_equal(config.topics[0].partitions, 3);
    assert_string_equal(config.topics[1].name, CONFIG_TOPIC_GROUPS);
    assert_int_equal(config.topics[1].partitions, 4);
    assert_int_equal(config_self(&config)->id, 1);
    assert_string_equal(config_self(&config)->http.host, "::1");
    assert_int_equal(config.listen.http.port, 80);
    assert_int_equal(config.listen.broker.port, 2);
    assert_string_equal(config_node_by_id(&config, 2)->name, "n2");
    assert_null(config_node_by_id(&config, 3));
}

static void internal_address__is_given_or_above_the_brokers_and_used_with_tls_only(void **state)
{
    (void)state;
    static const char text[] =
        BASE NODE1 "cluster.node = n2 id=2 peer=127.0.0.1:5 broker=localhost:6 http=h:7 rtmp=h:8 "
                   "internal=127.0.0.2:9\n";
    char with_tls[1024];
    assert_int_equal(config_parse("f", text, &config, &err), 0);
    assert_ptr_equal(config_internal(&config, &config.nodes[1]), &config.nodes[1].http);
    (void)snprintf(with_tls, sizeof(with_tls), "%s%s", text, TLS "listen.internal = 0.0.0.0:10\n");
    assert_int_equal(config_parse("f", with_tls, &config, &err), 0);
    const struct config_address *first = config_internal(&config, &config.nodes[0]);
    const struct config_address *second = config_internal(&config, &config.nodes[1]);
    assert_string_equal(first->host, "localhost");
    assert_int_equal(first->port, 102);
    assert_string_equal(second->host, "127.0.0.2");
    assert_int_equal(second->port, 9);
    assert_string_equal(config.listen.internal.host, "0.0.0.0");
    assert_int_equal(config.listen.internal.port, 10);
    assert_int_equal(
        config_parse("f",
                     BASE NODE1 TLS
                     "cluster.node = n2 id=2 peer=h:5 broker=h:65436 http=h:7 rtmp=h:8\n",
                     &config, &err),
        WEIR_ECONFIG);
    assert_string_equal(err.text, "f: cluster.node n2: expected internal=H:P, for there is no port "
                                  "100 above that of broker");
    assert_int_equal(config_parse("f",
                                  BASE NODE1 TLS
                                  "cluster.node = n2 id=2 peer=h:5 broker=h:6 http=h:106 "
                                  "rtmp=h:8\n",
                                  &config, &err),
                     WEIR_ECONFIG);
    assert_string_equal(err.text, "f: cluster.node n2: h:106 is used twice; expected an address of "
                                  "its own for each service");
}

#define TOPIC_FORM                                                                                 \
    "NAME partitions=1..1024 [retain_ms=N] [retain_mib=N] [compact=yes|no] [tombstone_ms=N]"

static void parse__wrong_input_names_line_option_and_what_was_expected(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {BASE NODE1 "log.segment_mib = 0\n",
         "f:5: log.segment_mib: 0 is out of range; expected 1 to 1024"},
        {BASE NODE1 "log.segment_mib = 64k\n",
         "f:5: log.segment_mib: '64k' is not a whole number; expected 1 to 1024"},
        {BASE NODE1 "log.segment_mib = -1\n",
         "f:5: log.segment_mib: '-1' is not a whole number; expected 1 to 1024"},
        {BASE NODE1 "log.segment_mib = 99999999999999999999999\n",
         "f:5: log.segment_mib: 99999999999999999999999 is out of range; expected 1 to 1024"},
        {BASE NODE1 "log.sgment_mib = 1\n", "f:5: log.sgment_mib: no such option"},
        {BASE NODE1 "hello\n", "f:5: 'hello': expected name = value"},
        {BASE NODE1 "chat.rate_ms=1\nchat.rate_ms=1\n",
         "f:6: chat.rate_ms: already given on line 5"},
        {BASE NODE1 "node.roles = log cook\n",
         "f:5: node.roles: 'cook' is not a role; expected some of log ingest transcode edge "
         "chat api"},
        {BASE NODE1 "logging.level = loud\n",
         "f:5: logging.level: 'loud' is not a level; expected error, warn, info or debug"},
        {BASE NODE1 "listen.http = 80\n",
         "f:5: listen.http: '80' is not host:port; expected host:port"},
        {BASE NODE1 "listen.http = h:0\n",
         "f:5: listen.http: 'h:0': the port must be 1 to 65535; expected host:port"},
        {BASE NODE1 "log.topic = a partitions=1 retain_ms=0\n",
         "f:5: log.topic: 0 is out of range; expected " TOPIC_FORM},
        {BASE NODE1 "log.topic = a partitions=1 compact=perhaps\n",
         "f:5: log.topic: 'perhaps' is neither yes nor no; expected " TOPIC_FORM},
        {BASE NODE1 "log.topic = ledger partitions=4 compact=yes\n",
         "f:5: log.topic: ledger holds events and can't be compacted; expected " TOPIC_FORM},
        {BASE NODE1 "log.topic = a/b partitions=1\n",
         "f:5: log.topic: 'a/b' is not a name (letters, digits, _ and -, at most 63); "
         "expected " TOPIC_FORM},
        {BASE NODE1 "cluster.node = n2 id=1 peer=h:11 broker=h:12 http=h:13 rtmp=h:14\n",
         "f:5: cluster.node: id=1 is already that of node n1; expected NAME id=1..2147483648 "
         "peer=H:P broker=H:P http=H:P rtmp=H:P [internal=H:P] [log=no]"},
        {BASE NODE1
         "cluster.node = n2 id=2 peer=localhost:2 broker=localhost:12 http=h:13 rtmp=h:14\n",
         "f: cluster.node n2: localhost:2 is used twice; expected an address of its own for each "
         "service"},
        {BASE NODE1 "cluster.node = n2 id=2 peer=10.0.0.2:1 broker=10.0.0.2:2 http=h:3 rtmp=h:5\n",
         "f: cluster.node n2 is on another machine; expected tls.ca, tls.cert and tls.key (weir "
         "cluster certs makes them), or tls.plain = yes"},
        {BASE NODE1 "tls.ca = ca.pem\n",
         "f: tls.ca, tls.cert and tls.key: some are missing; expected all or none"},
        {BASE NODE1 "tls.plain = perhaps\n",
         "f:5: tls.plain: 'perhaps' is neither yes nor no; expected yes or no"},
        {BASE NODE2, "f: node.name: no cluster.node line is named n1; expected one of them"},
        {BASE, "f: no cluster.node line; expected one per node"},
        {"node.name=n1\nnode.data=/x\n" NODE1,
         "f: cluster.secret must be given; expected 16 to 255 characters"},
        {"cluster.secret = short\n",
         "f:1: cluster.secret: it has 5 characters; expected 16 to 255 characters"},
        {BASE NODE1 "raft.heartbeat_ms = 200\n",
         "f: raft.election_ms: 500 is too short for raft.heartbeat_ms 200; expected at least "
         "800"},
        {BASE NODE1 "media.replicas = 2\n",
         "f: media.replicas: 2 is more than there are nodes; expected 1 to 1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(config_parse("f", cases[i].text, &config, &err), WEIR_ECONFIG);
        assert_string_equal(err.text, cases[i].error);
    }
}

#define SHARDS2 "log.shards = 2\n"

static void log_shards__need_ports_of_their_own(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {BASE SHARDS2 "cluster.node = n1 id=1 peer=h:1000 broker=h:2000 http=h:3 rtmp=h:4\n"
                      "tls.plain = yes\n",
         "f: log.shards: h:2000 would be peer of n1, shard 1, and broker of n1, shard 0; expected "
         "ports that leave room for 2 shards, 1000 apart"},
        {BASE SHARDS2 "cluster.node = n1 id=1 peer=h:1 broker=h:2 http=h:3 rtmp=h:4\n"
                      "cluster.node = n2 id=2 peer=h:5 broker=h:1002 http=h:7 rtmp=h:8\n"
                      "tls.plain = yes\n",
         "f: log.shards: h:1002 would be broker of n1, shard 1, and broker of n2, shard 0; "
         "expected ports that leave room for 2 shards, 1000 apart"},
        {BASE SHARDS2 "cluster.node = n1 id=1 peer=h:65000 broker=h:2 http=h:3 rtmp=h:4\n"
                      "tls.plain = yes\n",
         "f: cluster.node n1: no room above port peer for log.shards 2; expected ports of at most "
         "64535"},
        {BASE NODE1 SHARDS2 "listen.broker = 0.0.0.0:1001\n",
         "f: log.shards: port 1001 would be listen.peer of shard 1 and listen.broker of shard 0; "
         "expected ports that leave room for 2 shards, 1000 apart"},
        {BASE NODE1 "log.shards = 16\nlog.node_inflight_mib = 8\n",
         "f: log.node_inflight_mib: a share of 8 MiB for each of 16 log.shards is less than one "
         "batch of log.batch_kib_max 1024 KiB"},
        {BASE NODE1 "log.shards = 17\n", "f:5: log.shards: 17 is out of range; expected 1 to 16"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(config_parse("f", cases[i].text, &config, &err), WEIR_ECONFIG);
        assert_string_equal(err.text, cases[i].error);
    }
    assert_int_equal(config_parse("f", BASE NODE1 NODE2 SHARDS2, &config, &err), 0);
    assert_int_equal(config.log_shards, 2);
}

static void load__missing_file_is_named(void **state)
{
    (void)state;
    assert_true(config_load("/nowhere/weir.conf", &config, &err) < 0);
    assert_string_equal(err.text, "open /nowhere/weir.conf: No such file or directory");
}

static void help__names_every_option(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    config_print_help(f);
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(text, "log.segment_mib\n    Size at which"));
    assert_non_null(strstr(text, "takes 1 to 1024; default 64"));
    free(text);
}

static void config_parse__keeps_what_views_fold_for_ever(void **state)
{
    static const char *const names[] = {"accounts", "chat",      "groups",
                                        "ledger",   "lifecycle", "meta"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (unsigned k = 0; k < 2; k++) {
            char text[512], says[64];
            (void)snprintf(text, sizeof(text), BASE NODE1 "log.topic = %s partitions=1 %s=100\n",
                           names[i], k == 0 ? "retain_ms" : "retain_mib");
            (void)snprintf(says, sizeof(says), "%s is kept for ever", names[i]);
            assert_int_equal(config_parse("f", text, &config, &err), WEIR_ECONFIG);
            assert_non_null(strstr(err.text, says));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_parse__keeps_what_views_fold_for_ever),
        cmocka_unit_test(parse__fills_defaults_and_values),
        cmocka_unit_test(internal_address__is_given_or_above_the_brokers_and_used_with_tls_only),
        cmocka_unit_test(parse__wrong_input_names_line_option_and_what_was_expected),
        cmocka_unit_test(log_shards__need_ports_of_their_own),
        cmocka_unit_test(load__missing_file_is_named),
        cmocka_unit_test(help__names_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
