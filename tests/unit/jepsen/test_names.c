/* Names that a power failure takes back (jepsen/hosts/names.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "jepsen/hosts/names.h"

static struct hosts hosts;
static struct host *host = &hosts.at[0];

static char *path_of(const char *name, char out[300])
{
    (void)snprintf(out, 300, "%s/%s", host->disk, name);
    return out;
}

static void write_file(const char *name, const char *text)
{
    char path[300];
    FILE *f = fopen(path_of(name, path), "w");
    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* What is in it; "-" when there is no such file. */
static const char *read_file(const char *name)
{
    static char text[64];
    char path[300];
    FILE *f = fopen(path_of(name, path), "r");
    (void)snprintf(text, sizeof(text), "-");
    if (f != NULL) {
        text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
        (void)fclose(f);
    }
    return text;
}

/* "%" stands for the disk. */
static void write_log(const char *text)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/names", host->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (const char *c = text; *c != '\0'; c++) {
        (void)(*c == '%' ? fputs(host->disk, f) : fputc(*c, f));
    }
    assert_int_equal(fclose(f), 0);
}

static uint64_t none_made_it(void *data, uint64_t below)
{
    (void)data;
    return below - 1;
}

static uint64_t the_first_made_it(void *data, uint64_t below)
{
    unsigned *n = data;
    return (*n)++ == 0 ? 0 : below - 1;
}

static int set_up(void **state)
{
    (void)state;
    struct error err = {0};
    memset(&hosts, 0, sizeof(hosts));
    (void)snprintf(hosts.work, sizeof(hosts.work), "/tmp/weir-names-XXXXXX");
    assert_non_null(mkdtemp(hosts.work));
    (void)snprintf(host->dir, sizeof(host->dir), "%s", hosts.work);
    (void)snprintf(host->disk, sizeof(host->disk), "%s/disk", hosts.work);
    (void)snprintf(hosts.tools, sizeof(hosts.tools), "%s/tools", hosts.work);
    assert_int_equal(mkdir(host->disk, 0755), 0);
    assert_int_equal(mkdir(hosts.tools, 0755), 0);
    assert_int_not_equal(names_prepare(&hosts, host, &err), 0);
    write_file("../libweir_names.so", "");
    return names_prepare(&hosts, host, &err);
}

static int tear_down(void **state)
{
    char line[300];
    (void)state;
    (void)snprintf(line, sizeof(line), "rm -rf %s", hosts.work);
    return system(line);
}

static unsigned lose(uint64_t (*random)(void *data, uint64_t below))
{
    struct error err = {0};
    unsigned lost = 0, drawn = 0;
    assert_int_equal(names_lose(&hosts, host, random, &drawn, &lost, &err), 0);
    return lost;
}

static void what_was_synced_stays(void **state)
{
    (void)state;
    write_file("a", "old");
    write_file("b", "new");
    write_log("1 create %/a\n2 sync % 1\n3 create %/b\n");
    assert_int_equal(lose(none_made_it), 1);
    assert_string_equal(read_file("a"), "old");
    assert_string_equal(read_file("b"), "-");
}

static void a_folder_that_is_synced_says_nothing_of_another(void **state)
{
    char path[300];
    (void)state;
    assert_int_equal(mkdir(path_of("f", path), 0755), 0);
    write_file("f/a", "a");
    write_log("1 create %/f\n2 create %/f/a\n3 sync % 2\n");
    assert_int_equal(lose(none_made_it), 1);
    assert_string_equal(read_file("f/a"), "-");
    assert_int_equal(access(path_of("f", path), F_OK), 0);
}

static void what_was_removed_or_replaced_comes_back(void **state)
{
    (void)state;
    write_file("kept/1", "removed");
    write_file("kept/2", "replaced");
    write_file("to", "new");
    write_log("1 unlink %/gone %/kept/1\n2 rename %/from %/to %/kept/2\n");
    assert_int_equal(lose(none_made_it), 2);
    assert_string_equal(read_file("gone"), "removed");
    assert_string_equal(read_file("from"), "new");
    assert_string_equal(read_file("to"), "replaced");
    assert_string_equal(read_file("kept/1"), "-");
}

static void the_first_changes_of_a_folder_may_have_made_it(void **state)
{
    (void)state;
    write_file("a", "a");
    write_file("b", "b");
    write_log("1 create %/a\n2 create %/b\n3 cre");
    assert_int_equal(lose(the_first_made_it), 1);
    assert_string_equal(read_file("a"), "a");
    assert_string_equal(read_file("b"), "-");
}

static void a_second_failure_knows_nothing_of_the_first(void **state)
{
    (void)state;
    write_file("a", "a");
    write_log("1 create %/a\n");
    assert_int_equal(lose(none_made_it), 1);
    write_file("a", "again");
    assert_int_equal(lose(none_made_it), 0);
    assert_string_equal(read_file("a"), "again");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_synced_stays),
        TEST(a_folder_that_is_synced_says_nothing_of_another),
        TEST(what_was_removed_or_replaced_comes_back),
        TEST(the_first_changes_of_a_folder_may_have_made_it),
        TEST(a_second_failure_knows_nothing_of_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
