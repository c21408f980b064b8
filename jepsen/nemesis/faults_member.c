/* Membership. The spare host comes as a new node each time: an id that was removed never comes
 * back. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "jepsen/nemesis/faults.h"

static int cluster(struct nemesis_world *w, struct error *err, const char *verb, const char *rest)
{
    if (hosts_runf(w->hosts, "timeout 90 %s cluster %s %s --wait --config %s/client.conf",
                   w->program, verb, rest, w->hosts->work) != 0) {
        return error_set(err, WEIR_EUNAVAILABLE, "weir cluster %s %s (see commands)", verb, rest);
    }
    return 0;
}

static int add(struct nemesis_world *w, const struct host *host, struct error *err)
{
    char line[256];
    (void)snprintf(line, sizeof(line), "%s id=%u peer=%s:%d broker=%s:%d http=%s:%d rtmp=%s:%d",
                   host->name, host->number, host->address, HOST_PORT_PEER, host->address,
                   HOST_PORT_LOG, host->address, HOST_PORT_HTTP, host->address, HOST_PORT_RTMP);
    return cluster(w, err, "add", line);
}

/* A node that has just been started does not listen yet. */
#define LISTENS_TRIES    60
#define LISTENS_PAUSE_MS 500

static int add_started(struct nemesis_world *w, const struct host *host, struct error *err)
{
    int rv = add(w, host, err);
    for (unsigned i = 0; rv != 0 && i < LISTENS_TRIES; i++) {
        hosts_pause_ms(LISTENS_PAUSE_MS);
        rv = add(w, host, err);
    }
    return rv;
}

static struct host *spare(struct nemesis_world *w)
{
    return &w->hosts->at[w->hosts->founders];
}

int member_come(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    struct host *host = spare(w);
    (void)snprintf(what, NEMESIS_WHAT_MAX, "[\"%s\"]", host->name);
    int rv = host_configure(w->hosts, host, err);
    rv = rv == 0 ? host_start(w->hosts, host, err) : rv;
    rv = rv == 0 ? add_started(w, host, err) : rv;
    host->member = rv == 0;
    return rv;
}

int member_go(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    struct host *host = spare(w);
    (void)snprintf(what, NEMESIS_WHAT_MAX, "[\"%s\"]", host->name);
    int rv = cluster(w, err, "drain", host->name);
    rv = rv == 0 ? cluster(w, err, "remove", host->name) : rv;
    if (rv != 0) {
        return rv;
    }
    host->member = false;
    host_signal(host, SIGTERM);
    (void)hosts_runf(w->hosts, "rm -rf %s/data", host->disk);
    (void)snprintf(host->name, sizeof(host->name), "n%u", ++host->number);
    return 0;
}

int member_drain(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    unsigned i = 0;
    nemesis_choose(w, 1, what);
    while (!w->hit[i]) {
        i++;
    }
    return cluster(w, err, "drain", w->hosts->at[i].name);
}

int member_stay(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    unsigned i = 0;
    (void)what;
    while (!w->hit[i]) {
        i++;
    }
    return add(w, &w->hosts->at[i], err);
}
