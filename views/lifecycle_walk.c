/* Everything that the view names in the segment store, in pages. */
#include <assert.h>
#include <string.h>

#include "views/lifecycle_priv.h"

static const char kinds[] = {'b', 'd', 's'};

struct page {
    struct lifecycle_place *place;
    unsigned left;
    lifecycle_stored_cb cb;
    void *data;
};

static int met_segment(const struct page *p, const uint8_t *key, size_t key_len,
                       const uint8_t *value, size_t len)
{
    struct lifecycle_segment *s = NULL;
    int rc = lifecycle_decode_segment(load_be64(key + key_len - 8), value, len, &s);
    if (rc == 0) {
        rc = p->cb(p->data, &(struct lifecycle_stored){.segment = s});
        lifecycle_segment_free(s);
    }
    return rc;
}

static int met_thumbnail(const struct page *p, const uint8_t *value, size_t len)
{
    struct lifecycle_broadcast b;
    int rc = lifecycle_decode_broadcast(value, len, &b);
    if (rc == 0 && b.thumbnail.object.size > 0) {
        rc = p->cb(p->data, &(struct lifecycle_stored){.object = &b.thumbnail.object});
    }
    return rc;
}

static int met_init(const struct page *p, const uint8_t *value, size_t len)
{
    struct lifecycle_object o;
    int rc = lifecycle_decode_object(value, len, &o);
    return rc == 0 ? p->cb(p->data, &(struct lifecycle_stored){.object = &o}) : rc;
}

static int met(void *data, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
    struct page *p = data;
    struct lifecycle_place *place = p->place;
    if (key_len == place->key_len && memcmp(key, place->key, key_len) == 0) {
        return 0; /* where the last page ended */
    }
    if (p->left == 0) {
        return 1;
    }
    assert(key_len <= sizeof(place->key));
    int rc = kinds[place->kind] == 's'   ? met_segment(p, key, key_len, value, len)
             : kinds[place->kind] == 'd' ? met_init(p, value, len)
                                         : met_thumbnail(p, value, len);
    if (rc != 0) {
        return rc;
    }
    p->left--;
    place->key_len = (unsigned)key_len;
    memcpy(place->key, key, key_len);
    return 0;
}

static int walk_kind(struct views *views, struct page *p)
{
    const struct lifecycle_place *place = p->place;
    struct fold_txn *txn = NULL;
    int rc = views_read_begin(views, VIEW_LIFECYCLE, place->partition, &txn);
    if (rc != 0) {
        return rc;
    }
    uint8_t from[sizeof(place->key)];
    size_t from_len = place->key_len > 0 ? place->key_len : 1;
    from[0] = (uint8_t)kinds[place->kind];
    memcpy(from, place->key_len > 0 ? place->key : from, from_len);
    rc = fold_scan_from(txn, &kinds[place->kind], 1, from, from_len, false, met, p);
    views_read_end(txn);
    return rc;
}

struct lifecycle_place lifecycle_place_from(uint32_t partition, char letter)
{
    return (struct lifecycle_place){.partition = partition,
                                    .kind = sizeof(kinds) - 1,
                                    .key_len = 2,
                                    .key = {(uint8_t)kinds[sizeof(kinds) - 1], (uint8_t)letter}};
}

int lifecycle_walk(struct views *views, struct lifecycle_place *place, unsigned max,
                   lifecycle_stored_cb cb, void *data)
{
    struct page p = {.place = place, .left = max, .cb = cb, .data = data};
    static_assert(sizeof(place->key) >= sizeof(((struct lifecycle_key *)0)->data), "a whole key");
    while (place->partition < views_partitions(views, VIEW_LIFECYCLE)) {
        int rc = walk_kind(views, &p);
        if (rc != 0) {
            return rc;
        }
        place->key_len = 0;
        if (++place->kind == sizeof(kinds)) {
            place->kind = 0;
            place->partition++;
        }
    }
    return 0;
}
