#include "nodes/broker/broker_thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/env_loop.h"
#include "base/logging.h"
#include "net/tls.h"
#include "nodes/broker/broker.h"

struct broker_thread {
    const struct config *config;
    pthread_t thread;
    struct env *env;
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

static void stop(void *arg)
{
    struct broker_thread *t = arg;
    if (t->broker != NULL) {
        broker_close(t->broker, on_closed, t);
    } else {
        t->closed = true;
    }
}

static void *run(void *arg)
{
    struct broker_thread *t = arg;
    struct error err = {0};
    struct env_loop *loop;
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
        rv = broker_open(t->env, t->tls != NULL ? tls_net_env(t->tls) : NULL, t->config, NULL,
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

int broker_start(const struct config *config, struct broker_thread **ret_thread, struct error *err)
{
    struct broker_thread *t = calloc(1, sizeof(*t));
    sigset_t all, before;
    if (t == NULL) {
        return error_set(err, WEIR_ENOMEM, "no memory for the broker");
    }
    t->config = config;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    /* Signals are the front loop's. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&t->thread, NULL, run, t);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        thread_free(t);
        return error_set(err, error_from_errno(rc), "can't start the broker's thread: %s",
                         strerrordesc_np(rc));
    }
    pthread_mutex_lock(&t->lock);
    while (!t->done) {
        pthread_cond_wait(&t->changed, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    if (t->status != 0) {
        int rv = error_set(err, t->status, "%s", t->error.text);
        (void)pthread_join(t->thread, NULL);
        thread_free(t);
        return rv;
    }
    *ret_thread = t;
    return 0;
}

static void reload(void *arg)
{
    const struct broker_thread *t = arg;
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

void broker_reload(struct broker_thread *t)
{
    if (env_post(t->env, reload, t) != 0) {
        log_error("tls_reload_failed", "links=log reason=\"out of memory\"");
    }
}

void broker_stop(struct broker_thread *t)
{
    /* Without memory to say so the process can only go the hard way, which the log survives. */
    if (env_post(t->env, stop, t) != 0) {
        abort();
    }
    (void)pthread_join(t->thread, NULL);
    thread_free(t);
}
