/* Firewalls in the hosts' namespaces. Clients, at the bridge's end, still reach every node: what is
 * cut is what nodes say to each other. */
#include <stdio.h>
#include <string.h>

#include "jepsen/nemesis/faults.h"

int net_cut_one_way(struct nemesis_world *w, unsigned from, unsigned to, struct error *err)
{
    const struct host *a = &w->hosts->at[from], *b = &w->hosts->at[to];
    if (host_runf(w->hosts, b, "iptables -w -A INPUT -s %s -j DROP", a->address) != 0) {
        return error_set(err, WEIR_EIO, "iptables fails on %s (see commands)", b->name);
    }
    return 0;
}

static int cut(struct nemesis_world *w, unsigned a, unsigned b, struct error *err)
{
    int rv = net_cut_one_way(w, a, b, err);
    return rv == 0 ? net_cut_one_way(w, b, a, err) : rv;
}

/* Between those that are hit and those that are not; `except` (an index) stays with both. */
static int cut_hit(struct nemesis_world *w, unsigned except, struct error *err)
{
    int rv = 0;
    for (unsigned a = 0; a < w->hosts->n; a++) {
        for (unsigned b = 0; rv == 0 && b < a; b++) {
            if (a != except && b != except && w->hit[a] != w->hit[b]) {
                rv = cut(w, a, b, err);
            }
        }
    }
    return rv;
}

int net_cut_hit(struct nemesis_world *w, struct error *err)
{
    return cut_hit(w, HOSTS_MAX, err);
}

int net_isolate(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    nemesis_choose(w, 1, what);
    return net_cut_hit(w, err);
}

int net_halves(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    nemesis_choose(w, nemesis_members(w) / 2, what);
    return net_cut_hit(w, err);
}

int net_bridge(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    unsigned bridge = 0;
    nemesis_choose(w, nemesis_members(w) / 2, what);
    while (w->hit[bridge] || !w->hosts->at[bridge].member) {
        bridge++;
    }
    size_t n = strlen(what);
    (void)snprintf(what + n - 1, NEMESIS_WHAT_MAX - n, " :bridge \"%s\"]",
                   w->hosts->at[bridge].name);
    return cut_hit(w, bridge, err);
}

/* Members in a ring of random order; each keeps its neighbours on both sides, as many as make a
 * majority with itself. */
int net_ring(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    unsigned ring[HOSTS_MAX] = {0}, n = 0, reach = (nemesis_members(w) / 2 + 1) / 2;
    int rv = 0;
    for (unsigned i = 0; i < w->hosts->n; i++) {
        if (w->hosts->at[i].member) {
            unsigned k = (unsigned)nemesis_random(w, ++n);
            ring[n - 1] = ring[k];
            ring[k] = i;
        }
    }
    for (unsigned a = 0; a < n; a++) {
        for (unsigned b = 0; rv == 0 && b < a; b++) {
            unsigned apart = a - b < n - (a - b) ? a - b : n - (a - b);
            if (apart > reach || (n == 3 && a == 2 && b == 0)) {
                rv = cut(w, ring[a], ring[b], err);
            }
        }
    }
    size_t at = (size_t)snprintf(what, NEMESIS_WHAT_MAX, "[");
    for (unsigned i = 0; i < n; i++) {
        at += (size_t)snprintf(what + at, NEMESIS_WHAT_MAX - at, "%s\"%s\"%s", i > 0 ? " " : "",
                               w->hosts->at[ring[i]].name, i + 1 == n ? "]" : "");
    }
    return rv;
}

int net_one_way(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    bool deaf = nemesis_random(w, 2) == 0;
    unsigned one = 0;
    int rv = 0;
    nemesis_choose(w, 1, what);
    while (!w->hit[one]) {
        one++;
    }
    for (unsigned i = 0; rv == 0 && i < w->hosts->n; i++) {
        if (i != one) {
            rv = deaf ? net_cut_one_way(w, i, one, err) : net_cut_one_way(w, one, i, err);
        }
    }
    (void)snprintf(what, NEMESIS_WHAT_MAX, "[\"%s\" %s]", w->hosts->at[one].name,
                   deaf ? ":hears-nobody" : ":not-heard");
    return rv;
}

/* A rule on every host for packets of other hosts. */
static int rule_everywhere(struct nemesis_world *w, const char *rule, struct error *err)
{
    for (unsigned i = 0; i < w->hosts->n; i++) {
        for (unsigned k = 0; k < w->hosts->n; k++) {
            const struct host *host = &w->hosts->at[i];
            if (i != k && host_runf(w->hosts, host, "iptables -w -A INPUT -s %s %s",
                                    w->hosts->at[k].address, rule) != 0) {
                return error_set(err, WEIR_EIO, "iptables fails on %s (see commands)", host->name);
            }
        }
    }
    return 0;
}

int net_loss(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    char rule[128];
    unsigned percent = 5 + (unsigned)nemesis_random(w, 29);
    (void)snprintf(what, NEMESIS_WHAT_MAX, "{:percent %u}", percent);
    (void)snprintf(rule, sizeof(rule), "-m statistic --mode random --probability 0.%02u -j DROP",
                   percent);
    return rule_everywhere(w, rule, err);
}

int net_delay(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    unsigned ms = 5 + (unsigned)nemesis_random(w, 196);
    (void)snprintf(what, NEMESIS_WHAT_MAX, "{:ms %u}", ms);
    for (unsigned i = 0; i < w->hosts->n; i++) {
        int rv = host_delay_start(w->hosts, &w->hosts->at[i], ms, ms, err);
        if (rv != 0) {
            return rv;
        }
    }
    return rule_everywhere(w, "-j NFQUEUE --queue-num 0 --queue-bypass", err);
}

int net_heal(struct nemesis_world *w, char what[NEMESIS_WHAT_MAX], struct error *err)
{
    int rv = 0;
    (void)what;
    for (unsigned i = 0; i < w->hosts->n; i++) {
        if (host_runf(w->hosts, &w->hosts->at[i], "iptables -w -F INPUT") != 0) {
            rv = error_set(err, WEIR_EIO, "iptables fails on %s (see commands)",
                           w->hosts->at[i].name);
        }
        host_delay_stop(&w->hosts->at[i]);
    }
    return rv;
}
