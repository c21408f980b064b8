/* The built page (node.web). Files with a hash in their name (below /assets/) are kept in memory
 * and cached for ever by browsers; the others are small and read when asked for, so that a new
 * build shows at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nodes/edge/edge.h"

#define PATH_BYTES   (CONFIG_PATH_MAX + 256)
#define NAME_BYTES   200
#define FILE_MAX     (16u << 20)
#define KEPT_MAX     256
#define ASSETS       "assets/"
#define PAGE_HEADERS "X-Content-Type-Options: nosniff\r\nReferrer-Policy: same-origin\r\n"

struct kept_file {
    struct list link;
    struct http_body *body;
    char name[NAME_BYTES];
};

struct edge_files {
    struct env *env;
    struct list kept;
    unsigned n;
    char dir[CONFIG_PATH_MAX];
};

int edge_files_new(struct env *env, const char *dir, struct edge_files **ret_files)
{
    struct edge_files *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return WEIR_ENOMEM;
    }
    f->env = env;
    list_init(&f->kept);
    (void)snprintf(f->dir, sizeof(f->dir), "%s", dir);
    *ret_files = f;
    return 0;
}

void edge_files_free(struct edge_files *f)
{
    while (f != NULL && !list_empty(&f->kept)) {
        struct kept_file *k = list_entry(list_pop(&f->kept), struct kept_file, link);
        http_body_unref(k->body);
        free(k);
    }
    free(f);
}

static bool is_file_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '/';
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* A path without a dot in its last name is an address of the page, which finds out itself what to
 * show: "/", "/<channel>",
 * "/<channel>/vod/<broadcast>". */
bool edge_static_file(const char *path, char *ret_name, unsigned size)
{
    size_t n = strlen(path);
    if (path[0] != '/' || n >= size || starts_with(path, "/api/") || starts_with(path, "/hls/") ||
        starts_with(path, "/internal/")) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        /* No hidden files, and nothing that leads out of the folder. */
        bool name_begins = i > 0 && path[i - 1] == '/';
        if (!is_file_char(path[i]) || (name_begins && (path[i] == '.' || path[i] == '/'))) {
            return false;
        }
    }
    const char *last = strrchr(path, '/') + 1;
    const char *file = strchr(last, '.') != NULL ? path + 1 : "index.html";
    if (strlen(file) >= size) {
        return false;
    }
    memcpy(ret_name, file, strlen(file) + 1);
    return true;
}

const char *edge_static_type(const char *name)
{
    static const struct {
        const char *end, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
        {".webp", "image/webp"},
        {".ico", "image/x-icon"},
        {".woff2", "font/woff2"},
        {".json", "application/json"},
        {".map", "application/json"},
        {".webmanifest", "application/manifest+json"},
        {".wasm", "application/wasm"},
        {".txt", "text/plain; charset=utf-8"},
    };
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t m = strlen(types[i].end);
        if (n > m && strcmp(name + n - m, types[i].end) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

static struct http_body *kept_find(struct edge_files *f, const char *name)
{
    LIST_FOREACH(it, &f->kept)
    {
        struct kept_file *k = list_entry(it, struct kept_file, link);
        if (strcmp(k->name, name) == 0) {
            return http_body_ref(k->body);
        }
    }
    return NULL;
}

/* Best effort. */
static void keep(struct edge_files *f, const char *name, struct http_body *body)
{
    struct kept_file *k = f->n < KEPT_MAX ? calloc(1, sizeof(*k)) : NULL;
    if (k != NULL) {
        (void)snprintf(k->name, sizeof(k->name), "%s", name);
        k->body = http_body_ref(body);
        list_push_back(&f->kept, &k->link);
        f->n++;
    }
}

static int read_whole(struct env_file *file, struct http_body **ret_body, struct error *err)
{
    uint64_t size = 0;
    size_t n = 0;
    int rc = env_file_size(file, &size, err);
    if (rc != 0 || size > FILE_MAX) {
        return rc != 0 ? rc : WEIR_ETOOBIG;
    }
    uint8_t *data = malloc(size + 1);
    if (data == NULL) {
        return WEIR_ENOMEM;
    }
    rc = env_file_pread(file, data, size, 0, &n, err);
    if (rc != 0) {
        free(data);
        return rc;
    }
    *ret_body = http_body_new(data, n);
    return *ret_body != NULL ? 0 : WEIR_ENOMEM;
}

/* A reference of the caller's. */
static int file_get(struct edge_files *f, const char *name, struct http_body **ret_body)
{
    char path[PATH_BYTES];
    struct env_file *file = NULL;
    struct error err;
    *ret_body = kept_find(f, name);
    if (*ret_body != NULL) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    int rc = env_file_open(f->env, path, ENV_OPEN_READ, &file, &err);
    if (rc != 0) {
        return rc;
    }
    rc = read_whole(file, ret_body, &err);
    env_file_close(file);
    if (rc == 0 && starts_with(name, ASSETS)) {
        keep(f, name, *ret_body);
    }
    return rc;
}

void edge_static(void *data, struct http_exchange *ex)
{
    struct edge *e = data;
    char name[NAME_BYTES];
    struct http_body *body = NULL;
    if (e->stopping) {
        edge_error(ex, 503, "stopping\n");
        return;
    }
    if (e->files->dir[0] == 0 || !edge_static_file(http_path(ex), name, sizeof(name))) {
        edge_error(ex, 404, "not found\n");
        return;
    }
    int rc = file_get(e->files, name, &body);
    if (rc != 0) {
        /* A folder, or a name through a file, is no file of ours either. */
        edge_error(ex, rc == WEIR_ENOMEM ? 500 : 404, "%s: %s\n", name, error_name(rc));
        return;
    }
    http_respond(ex, 200, edge_static_type(name),
                 starts_with(name, ASSETS) ? EDGE_IMMUTABLE PAGE_HEADERS
                                           : "Cache-Control: no-cache\r\n" PAGE_HEADERS,
                 body);
}
