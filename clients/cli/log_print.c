#include "clients/cli/log_print.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "proto/print.h"

#define RECORD_TEXT_MAX (8u << 20)

enum log_format log_format_of(const char *name)
{
    static const char *const names[] = {[LOG_FORMAT_VALUE] = "value",
                                        [LOG_FORMAT_RECORD] = "record",
                                        [LOG_FORMAT_JSON] = "json",
                                        [LOG_FORMAT_CRC] = "crc",
                                        [LOG_FORMAT_COUNT] = "count"};
    for (enum log_format f = LOG_FORMAT_VALUE; f <= LOG_FORMAT_COUNT; f++) {
        if (strcmp(names[f], name) == 0) {
            return f;
        }
    }
    return LOG_FORMAT_AUTO;
}

/* Text where it is UTF-8, else hex under another name, so that every record has a faithful line. */
static void put_bytes(json_t *o, const char *name, const char *hex_name, const uint8_t *data,
                      int32_t len)
{
    if (data == NULL) {
        json_object_set_new(o, name, json_null());
        return;
    }
    json_t *s = json_stringn((const char *)data, (size_t)len);
    if (s != NULL) {
        json_object_set_new(o, name, s);
        return;
    }
    char *hex = malloc(2 * (size_t)len + 1);
    if (hex == NULL) {
        return;
    }
    for (int32_t i = 0; i < len; i++) {
        static const char digits[] = "0123456789abcdef";
        hex[2 * i] = digits[data[i] >> 4];
        hex[2 * i + 1] = digits[data[i] & 15];
    }
    hex[2 * len] = '\0';
    json_object_set_new(o, hex_name, json_string(hex));
    free(hex);
}

static void print_json(uint32_t partition, const struct batch_record *r)
{
    json_t *o = json_object();
    json_object_set_new(o, "partition", json_integer(partition));
    json_object_set_new(o, "offset", json_integer(r->offset.v));
    json_object_set_new(o, "time_ms", json_integer(r->timestamp_ms));
    put_bytes(o, "key", "key_hex", r->key, r->key_len);
    put_bytes(o, "value", "value_hex", r->value, r->value_len);
    (void)json_dumpf(o, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(o);
}

/* What can't be read as a record (a stranger's bytes in our topic) is shown in hex. */
static void print_decoded(const char *topic, uint32_t partition, const struct batch_record *r,
                          size_t len)
{
    struct bytes out;
    bytes_init(&out, RECORD_TEXT_MAX);
    int rc = record_print(topic, r->value, len, &out);
    printf("%u-%lld ", partition, (long long)r->offset.v);
    if (rc == 0) {
        (void)fwrite(out.data, 1, out.len, stdout);
    } else {
        printf("not a record: ");
        for (size_t i = 0; i < len; i++) {
            printf("%02x", r->value[i]);
        }
    }
    putchar('\n');
    bytes_close(&out);
}

void log_print_record(enum log_format format, const char *topic, uint32_t partition,
                      const struct batch_record *r)
{
    size_t len = r->value_len > 0 ? (size_t)r->value_len : 0;
    switch (format) {
    case LOG_FORMAT_RECORD:
        print_decoded(topic, partition, r, len);
        return;
    case LOG_FORMAT_AUTO: /* resolved with the arguments */
    case LOG_FORMAT_VALUE:
        (void)fwrite(r->value != NULL ? (const char *)r->value : "", 1, len, stdout);
        putchar('\n');
        return;
    case LOG_FORMAT_JSON:
        print_json(partition, r);
        return;
    case LOG_FORMAT_COUNT:
        return;
    case LOG_FORMAT_CRC:
        printf("%u %lld %08x\n", partition, (long long)r->offset.v, crc32c(0, r->value, len));
        return;
    }
}

void log_print_count(uint64_t records, uint64_t bytes, uint64_t elapsed_ns)
{
    double seconds = (double)elapsed_ns / 1e9;
    printf("%llu records %llu bytes %.3f s %.0f records/s\n", (unsigned long long)records,
           (unsigned long long)bytes, seconds, seconds > 0 ? (double)records / seconds : 0);
}
