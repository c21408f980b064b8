#include "feed.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/messages.h"
#include "views/accounts.h"
#include "views/chat.h"
#include "views/fold.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

/* Record number i of a made-up chat: its bytes depend on i alone. */
static void make_record(int64_t i, struct bytes *out)
{
    Weir__ChatMessage m = WEIR__CHAT_MESSAGE__INIT;
    Weir__ChatBan ban = WEIR__CHAT_BAN__INIT;
    Weir__ChatRecord r = WEIR__CHAT_RECORD__INIT;
    char user[16], nonce[32];
    (void)snprintf(user, sizeof(user), "user%lld", (long long)(i % 37));
    (void)snprintf(nonce, sizeof(nonce), "%lld", (long long)(i % 500));
    r.room = TEXT(i % 3 == 0 ? "one" : "two");
    if (i % 91 == 90) {
        ban.user = user;
        ban.by = TEXT("owner");
        ban.seconds = 3;
        r.body_case = WEIR__CHAT_RECORD__BODY_BAN;
        r.ban = &ban;
    } else {
        m.user = user;
        m.text = TEXT("hello");
        m.nonce = nonce;
        r.body_case = WEIR__CHAT_RECORD__BODY_MESSAGE;
        r.message = &m;
    }
    bytes_reset(out);
    message_pack(out, &r.base);
}

#define CHUNK 512

/* Feeds records [from, to) in chunks of n. */
static void feed_range(struct views *views, int64_t from, int64_t to, unsigned n)
{
    struct bytes packed[CHUNK];
    struct batch_record records[CHUNK];
    struct error err;
    assert_true(n <= CHUNK);
    for (unsigned i = 0; i < n; i++) {
        bytes_init(&packed[i], 4096);
    }
    while (from < to) {
        unsigned k = 0;
        for (; k < n && from < to; k++, from++) {
            make_record(from, &packed[k]);
            records[k] = (struct batch_record){
                .offset = LOG_OFFSET(from),
                .timestamp_ms = 1700000000000 + from * 40,
                .key_len = -1,
                .value = packed[k].data,
                .value_len = (int32_t)packed[k].len,
            };
        }
        if (views_feed(views, VIEW_CHAT, 0, records, k, &err) != 0) {
            fail_msg("%s", err.text);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        bytes_close(&packed[i]);
    }
}

static const uint32_t only_chat[VIEW_TOPICS] = {[VIEW_CHAT] = 1};

static struct views *open_chat(const char *dir)
{
    struct views *views = NULL;
    struct error err;
    if (views_open_detached(NULL, dir, only_chat, &views, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return views;
}

static void hash_of(struct views *views, uint8_t hash[32])
{
    struct error err;
    assert_int_equal(views_hash(views, VIEW_CHAT, 0, hash, &err), 0);
}

/* The hash at `offset`, folded from the beginning one record at a time. */
static void hash_at(int64_t offset, uint8_t hash[32])
{
    char dir[64];
    make_folder(dir);
    struct views *views = open_chat(dir);
    feed_range(views, 0, offset, 1);
    hash_of(views, hash);
    views_close(views, NULL, NULL);
    remove_folder(dir);
}

static void hash__does_not_depend_on_how_records_were_batched(void **state)
{
    uint8_t one[32], many[32];
    char dir[64];
    (void)state;
    hash_at(2000, one);
    make_folder(dir);
    struct views *views = open_chat(dir);
    feed_range(views, 0, 700, 512);
    feed_range(views, 300, 2000, 97); /* what was folded is skipped */
    hash_of(views, many);
    assert_memory_equal(one, many, 32);
    views_close(views, NULL, NULL);
    views = open_chat(dir); /* nor on a restart */
    assert_int_equal(views_offset(views, VIEW_CHAT, 0), 2000);
    hash_of(views, many);
    assert_memory_equal(one, many, 32);
    feed_range(views, 2000, 2001, 1);
    hash_of(views, many);
    assert_memory_not_equal(one, many, 32);
    views_close(views, NULL, NULL);
    remove_folder(dir);
}

/* The process to be killed: folds for ever, and says after each batch how far it is. It is this
 * program anew and not a mere fork, because the store's threads do not come along in a fork. */
static int feed_for_ever(const char *dir)
{
    struct views *views = open_chat(dir);
    for (int64_t i = views_offset(views, VIEW_CHAT, 0);; i += 256) {
        feed_range(views, i, i + 256, 256);
        if (i % 1024 == 0) {
            views_flush(views);
        }
        if (write(STDOUT_FILENO, &i, sizeof(i)) != sizeof(i)) {
            return 1;
        }
    }
}

static pid_t start_feeder(const char *dir, int out)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(out, STDOUT_FILENO);
        (void)execl("/proc/self/exe", "feeder", dir, (char *)NULL);
        _exit(127);
    }
    return pid;
}

static void kill__leaves_the_state_of_some_offset(void **state)
{
    char dir[64];
    int64_t at = 0;
    (void)state;
    make_folder(dir);
    for (int round = 0; round < 5; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        pid_t pid = start_feeder(dir, fds[1]);
        close(fds[1]);
        for (int i = 0; i < 20 + round; i++) {
            assert_int_equal(read(fds[0], &at, sizeof(at)), sizeof(at));
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(fds[0]);
        uint8_t got[32], want[32];
        struct views *views = open_chat(dir);
        int64_t offset = views_offset(views, VIEW_CHAT, 0);
        assert_true(offset <= at + 2 * 256);
        hash_of(views, got);
        hash_at(offset, want);
        assert_memory_equal(got, want, 32);
        views_close(views, NULL, NULL);
    }
    remove_folder(dir);
}

/* Flips a byte in the middle of every file whose name ends so. */
static unsigned spoil(const char *dir, const char *ending)
{
    unsigned n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t len = strlen(e->d_name), end = strlen(ending);
        char path[512];
        struct stat st;
        uint8_t byte = 0;
        if (len < end || strcmp(e->d_name + len - end, ending) != 0) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        int fd = open(path, O_RDWR);
        assert_true(fd >= 0 && fstat(fd, &st) == 0);
        assert_int_equal(pread(fd, &byte, 1, st.st_size / 3), 1);
        byte ^= 0x55;
        assert_int_equal(pwrite(fd, &byte, 1, st.st_size / 3), 1);
        close(fd);
        n++;
    }
    closedir(d);
    return n;
}

static void damage__is_found_at_open_and_folded_anew(void **state)
{
    static const char *const files[] = {".sst", "CURRENT"};
    uint8_t got[32], want[32];
    (void)state;
    hash_at(3000, want);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char dir[64];
        make_folder(dir);
        struct views *views = open_chat(dir);
        feed_range(views, 0, 3000, 512);
        views_close(views, NULL, NULL);
        assert_true(spoil(dir, files[i]) > 0);
        views = open_chat(dir);
        assert_int_equal(views_offset(views, VIEW_CHAT, 0), 0);
        feed_range(views, 0, 3000, 512);
        hash_of(views, got);
        assert_memory_equal(got, want, 32);
        views_close(views, NULL, NULL);
        remove_folder(dir);
    }
}

static void missing_file__is_damage_too(void **state)
{
    char dir[64], command[128];
    (void)state;
    make_folder(dir);
    struct views *views = open_chat(dir);
    feed_range(views, 0, 3000, 512);
    views_close(views, NULL, NULL);
    (void)snprintf(command, sizeof(command), "rm -f %s/*.sst", dir);
    assert_int_equal(system(command), 0);
    views = open_chat(dir);
    assert_int_equal(views_offset(views, VIEW_CHAT, 0), 0);
    views_close(views, NULL, NULL);
    remove_folder(dir);
}

static void open__of_a_store_in_use_is_refused_and_harms_nothing(void **state)
{
    char dir[64];
    struct views *other = NULL;
    struct error err;
    (void)state;
    make_folder(dir);
    struct views *views = open_chat(dir);
    feed_range(views, 0, 10, 10);
    assert_int_equal(views_open_detached(NULL, dir, only_chat, &other, &err), WEIR_EBUSY);
    feed_range(views, 10, 20, 10);
    assert_int_equal(views_offset(views, VIEW_CHAT, 0), 20);
    views_close(views, NULL, NULL);
    remove_folder(dir);
}

static void open__of_another_clusters_store_is_refused(void **state)
{
    static const uint32_t two[VIEW_TOPICS] = {[VIEW_CHAT] = 2};
    char dir[64];
    struct views *views = NULL;
    struct error err;
    (void)state;
    make_folder(dir);
    views_close(open_chat(dir), NULL, NULL);
    assert_int_equal(views_open_detached(NULL, dir, two, &views, &err), WEIR_EVERSION);
    assert_non_null(strstr(err.text, dir));
    remove_folder(dir);
}

static void feed__of_an_unknown_partition_is_refused(void **state)
{
    char dir[64];
    struct error err;
    struct batch_record r = {.value_len = -1};
    (void)state;
    make_folder(dir);
    struct views *views = open_chat(dir);
    assert_int_equal(views_feed(views, VIEW_CHAT, 1, &r, 1, &err), WEIR_EINVAL);
    assert_int_equal(views_feed(views, VIEW_LEDGER, 0, &r, 1, &err), WEIR_EINVAL);
    views_close(views, NULL, NULL);
    remove_folder(dir);
}

struct heard {
    int64_t next;
    struct views *views;
};

static void hear(void *data, const struct view_event *event)
{
    struct heard *h = data;
    assert_int_equal(event->offset, h->next);
    h->next++;
    /* The state is at the record or behind it, never before. */
    assert_true(views_offset(h->views, VIEW_CHAT, 0) > event->offset);
}

static void listeners__hear_every_record_once_and_in_order(void **state)
{
    char dir[64];
    (void)state;
    make_folder(dir);
    struct views *views = open_chat(dir);
    struct heard h = {.views = views};
    struct view_listener l = {.data = &h, .event = hear};
    views_listen(views, VIEW_CHAT, &l);
    feed_range(views, 0, 1000, 512);
    feed_range(views, 500, 1500, 100);
    assert_int_equal(h.next, 1500);
    views_unlisten(&l);
    feed_range(views, 1500, 1501, 1);
    assert_int_equal(h.next, 1500);
    views_close(views, NULL, NULL);
    remove_folder(dir);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return feed_for_ever(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash__does_not_depend_on_how_records_were_batched),
        cmocka_unit_test(kill__leaves_the_state_of_some_offset),
        cmocka_unit_test(damage__is_found_at_open_and_folded_anew),
        cmocka_unit_test(missing_file__is_damage_too),
        cmocka_unit_test(open__of_a_store_in_use_is_refused_and_harms_nothing),
        cmocka_unit_test(open__of_another_clusters_store_is_refused),
        cmocka_unit_test(feed__of_an_unknown_partition_is_refused),
        cmocka_unit_test(listeners__hear_every_record_once_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
