#include "nodes/broker/broker_thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env_loop.h"
#include "base/logging.h"
#include "base/shard.h"
#include "net/tls.h"
#include "nodes/broker/broker.h"
#include "nodes/broker/hub.h"

struct broker_thread {
    const struct config *config;
    struct hub *hub; /* NULL: the only one */
    uint32_t shard;
    pthread_t thread;
    struct env *env;
    struct env_post stop, reload;
    struct tls_net *tls; /* NULL: plain */
    struct broker *broker;
    bool closed;
    /* Tells the thread that started us how it went. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    int status;
    struct error error;
};

struct broker_threads {
    struct hub *hub;
    uint32_t n;
    struct broker_thread *at[SHARDS_MAX];
};

static void gate_open(struct broker_thread *t, int status, const struct error *err)
{
    pthread_mutex_lock(&t->lock);
    t->done = true;
    t->status = status;
    t->error = *err;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void on_closed(void *data)
{
    struct broker_thread *t = data;
    t->closed = true;
}

static void stop(struct broker_thread *t)
{
    if (t->broker != NULL) {
        broker_close(t->broker, on_closed, t);
    } else {
        t->closed = true;
    }
}

static void on_stop(struct env_post *post)
{
    stop(post->data);
}

static void *run(void *arg)
{
    struct broker_thread *t = arg;
    struct error err = {0};
    struct env_loop *loop;
    struct broker_options options = {.hub = t->hub, .shard = t->shard};
    int rv = env_loop_new(&loop, &err);
    if (rv != 0) {
        gate_open(t, rv, &err);
        return NULL;
    }
    t->env = env_loop_env(loop);
    if (config_has_tls(t->config)) {
        const struct tls_files files = {t->config->tls_ca, t->config->tls_cert, t->config->tls_key};
        rv = tls_net_new(t->env, &files, &t->tls, &err);
    }
    if (rv == 0) {
        rv = broker_open(t->env, t->tls != NULL ? tls_net_env(t->tls) : NULL, t->config, &options,
                         &t->broker, &err);
    }
    if (rv != 0) {
        stop(t);
    } else {
        gate_open(t, 0, &err);
    }
    env_loop_run_until(loop, &t->closed);
    env_loop_free(loop);
    tls_net_free(t->tls);
    if (rv != 0) {
        gate_open(t, rv, &err);
    }
    return NULL;
}

static void thread_free(struct broker_thread *t)
{
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static int thread_start(struct broker_thread *t, struct error *err)
{
    char name[16];
    sigset_t all, before;
    /* Signals are the front loop's. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&t->thread, NULL, run, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        return error_set(err, error_from_errno(rc), "can't start the broker's thread: %s",
                         strerrordesc_np(rc));
    }
    if (t->hub != NULL) {
        (void)snprintf(name, sizeof(name), "shard %u", t->shard);
        (void)pthread_setname_np(t->thread, name);
    }
    pthread_mutex_lock(&t->lock);
    while (!t->done) {
        pthread_cond_wait(&t->changed, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    if (t->status != 0) {
        (void)pthread_join(t->thread, NULL);
        return error_set(err, t->status, "%s", t->error.text);
    }
    return 0;
}

static void on_reload(struct env_post *post)
{
    const struct broker_thread *t = post->data;
    struct error err = {0};
    if (t->tls == NULL) {
        return;
    }
    if (tls_net_reload(t->tls, &err) == 0) {
        log_info("tls_reloaded", "links=log");
    } else {
        log_error("tls_reload_failed", "links=log reason=\"%s\"", err.text);
    }
}

void broker_reload(struct broker_threads *all)
{
    for (uint32_t i = 0; i < all->n; i++) {
        env_post(all->at[i]->env, &all->at[i]->reload, on_reload);
    }
}

static int shard_start(struct broker_threads *all, const struct config *config, struct error *err)
{
    struct broker_thread *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the broker");
    }
    t->stop.data = t->reload.data = t;
    t->config = config;
    t->hub = all->hub;
    t->shard = all->n;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    int rv = thread_start(t, err);
    if (rv != 0) {
        thread_free(t);
        return rv;
    }
    all->at[all->n++] = t;
    return 0;
}

int broker_start(const struct config *config, struct broker_threads **ret_threads,
                 struct error *err)
{
    uint32_t shards = config->log_shards;
    struct broker_threads *all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the broker");
    }
    int rv = shards > 1 ? hub_new(shards, &all->hub, err) : 0;
    /* One after the other: the first one knows what the cluster is. */
    do {
        rv = rv == 0 ? shard_start(all, config, err) : rv;
    } while (rv == 0 && all->n < shards);
    if (rv != 0) {
        broker_stop(all);
        return rv;
    }
    *ret_threads = all;
    return 0;
}

void broker_stop(struct broker_threads *all)
{
    /* All at once: each hands over what it leads. */
    for (uint32_t i = 0; i < all->n; i++) {
        env_post(all->at[i]->env, &all->at[i]->stop, on_stop);
    }
    for (uint32_t i = 0; i < all->n; i++) {
        (void)pthread_join(all->at[i]->thread, NULL);
        thread_free(all->at[i]);
    }
    hub_free(all->hub);
    free(all);
}
