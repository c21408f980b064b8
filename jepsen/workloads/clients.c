#include "jepsen/workloads/clients.h"

#include <stdio.h>
#include <stdlib.h>

#include "jepsen/workloads/near.h"
#include "net/tls.h"

#define SLOTS_MAX 256

struct clients {
    struct run *run;
    struct tls_net *tls;
    struct near *near[HOSTS_MAX]; /* made when first asked for */
    struct weir_client *at[SLOTS_MAX];
    unsigned open;
    void (*cb)(void *data);
    void *data;
    struct env_defer done;
};

int clients_open(struct run *run, struct clients **ret_clients, struct error *err)
{
    struct clients *c = calloc(1, sizeof(*c));
    const struct hosts *h = run_hosts(run);
    char ca[256], cert[256], key[256];
    if (c == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the clients");
    }
    c->run = run;
    (void)snprintf(ca, sizeof(ca), "%s/certs/ca.pem", h->work);
    (void)snprintf(cert, sizeof(cert), "%s/certs/client.pem", h->work);
    (void)snprintf(key, sizeof(key), "%s/certs/client.key", h->work);
    const struct tls_files files = {.ca = ca, .cert = cert, .key = key};
    int rv = h->tls ? tls_net_new(run_env(run), &files, &c->tls, err) : 0;
    if (rv != 0) {
        free(c);
        return rv;
    }
    *ret_clients = c;
    return 0;
}

static struct env *sockets_of(const struct clients *c)
{
    return c->tls != NULL ? tls_net_env(c->tls) : run_env(c->run);
}

static struct weir_client *make(struct clients *c, unsigned slot, unsigned first, unsigned n_seeds,
                                struct env *sockets)
{
    const struct hosts *h = run_hosts(c->run);
    char addresses[HOSTS_MAX][32], name[32];
    const char *seeds[HOSTS_MAX];
    struct error err = {0};
    for (unsigned i = 0; i < n_seeds; i++) {
        const struct host *host = &h->at[(first + i) % h->founders];
        (void)snprintf(addresses[i], sizeof(addresses[i]), "%s:%d", host->address, HOST_PORT_LOG);
        seeds[i] = addresses[i];
    }
    (void)snprintf(name, sizeof(name), "jepsen-%u", slot);
    const struct weir_client_options options = {
        .sockets = sockets,
        .seeds = seeds,
        .n_seeds = n_seeds,
        .secret = run_secret(c->run),
        .name = name,
        .timeout_ms = CLIENT_TIMEOUT_MS,
    };
    if (weir_client_new(run_env(c->run), &options, &c->at[slot], &err) != 0) {
        run_failed(c->run, err.text);
        return NULL;
    }
    c->open++;
    return c->at[slot];
}

struct weir_client *clients_of(struct clients *c, unsigned slot)
{
    return c->at[slot] != NULL ? c->at[slot]
                               : make(c, slot, slot, run_hosts(c->run)->founders, sockets_of(c));
}

struct weir_client *clients_near(struct clients *c, unsigned slot, unsigned node)
{
    node %= run_hosts(c->run)->founders;
    if (c->at[slot] == NULL && c->near[node] == NULL) {
        c->near[node] = near_new(sockets_of(c), run_hosts(c->run)->at[node].address);
        if (c->near[node] == NULL) {
            return NULL;
        }
    }
    return c->at[slot] != NULL ? c->at[slot] : make(c, slot, node, 1, near_env(c->near[node]));
}

void clients_drop(struct clients *c, unsigned slot, void (*cb)(void *data), void *data)
{
    struct weir_client *client = c->at[slot];
    c->at[slot] = NULL;
    c->open--;
    weir_client_free(client, cb, data);
}

static void on_done(struct env_defer *defer)
{
    struct clients *c = defer->data;
    void (*cb)(void *data) = c->cb;
    void *data = c->data;
    for (unsigned i = 0; i < HOSTS_MAX; i++) {
        near_free(c->near[i]);
    }
    tls_net_free(c->tls);
    free(c);
    cb(data);
}

static void on_freed(void *data)
{
    struct clients *c = data;
    if (--c->open == 0) {
        c->done.data = c;
        env_defer(run_env(c->run), &c->done, on_done);
    }
}

void clients_close(struct clients *c, void (*cb)(void *data), void *data)
{
    c->cb = cb;
    c->data = data;
    c->open++; /* this function's own */
    for (unsigned i = 0; i < SLOTS_MAX; i++) {
        if (c->at[i] != NULL) {
            weir_client_free(c->at[i], on_freed, c);
        }
    }
    on_freed(c);
}
