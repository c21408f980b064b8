/* weir-jepsen-delay MS SPREAD: keeps every packet of netfilter's queue 0 for MS milliseconds, give
 * or take half of SPREAD, so that packets are late and change places. Runs in a host's namespace
 * until it is killed (packets pass then: --queue-bypass). netem is not in every kernel; this needs
 * nfnetlink_queue only. */
#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define WAITING_MAX 65536u
#define PACKET_MAX  256 /* bytes of it that we ask for: its id is all we need */

struct waiting {
    uint64_t due_ns;
    uint32_t id;
};

/* A heap, the next one first. */
static struct waiting waiting[WAITING_MAX];
static unsigned n_waiting;
static uint64_t delay_ns, spread_ns, random_state = 88172645463325252u;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void swap(unsigned a, unsigned b)
{
    struct waiting w = waiting[a];
    waiting[a] = waiting[b];
    waiting[b] = w;
}

static void put(uint64_t due_ns, uint32_t id)
{
    unsigned at = n_waiting++;
    waiting[at] = (struct waiting){.due_ns = due_ns, .id = id};
    for (; at > 0 && waiting[at].due_ns < waiting[(at - 1) / 2].due_ns; at = (at - 1) / 2) {
        swap(at, (at - 1) / 2);
    }
}

static uint32_t take(void)
{
    uint32_t id = waiting[0].id;
    waiting[0] = waiting[--n_waiting];
    for (unsigned at = 0;;) {
        unsigned least = at;
        for (unsigned k = 2 * at + 1; k <= 2 * at + 2 && k < n_waiting; k++) {
            least = waiting[k].due_ns < waiting[least].due_ns ? k : least;
        }
        if (least == at) {
            return id;
        }
        swap(at, least);
        at = least;
    }
}

static int on_packet(struct nfq_q_handle *q, struct nfgenmsg *message, struct nfq_data *data,
                     void *arg)
{
    struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
    (void)message;
    (void)arg;
    if (header == NULL) {
        return 0;
    }
    uint32_t id = ntohl(header->packet_id);
    if (n_waiting == WAITING_MAX) {
        return nfq_set_verdict(q, id, NF_ACCEPT, 0, NULL);
    }
    put(now_ns() + delay_ns - spread_ns / 2 + next_random() % (spread_ns + 1), id);
    return 0;
}

static int run(struct nfq_handle *h, struct nfq_q_handle *q)
{
    char buffer[8192];
    struct pollfd fd = {.fd = nfq_fd(h), .events = POLLIN};
    for (;;) {
        uint64_t now = now_ns();
        while (n_waiting > 0 && waiting[0].due_ns <= now) {
            (void)nfq_set_verdict(q, take(), NF_ACCEPT, 0, NULL);
        }
        int wait_ms = n_waiting > 0 ? (int)((waiting[0].due_ns - now) / 1000000u) + 1 : -1;
        if (poll(&fd, 1, wait_ms) < 0 && errno != EINTR) {
            return 1;
        }
        if ((fd.revents & POLLIN) != 0) {
            ssize_t n = recv(fd.fd, buffer, sizeof(buffer), MSG_DONTWAIT);
            if (n > 0) {
                (void)nfq_handle_packet(h, buffer, (int)n);
            } else if (n < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EINTR) {
                return 1;
            }
        }
    }
}

/* Milliseconds as nanoseconds; 0: none. */
static uint64_t take_ms(const char *text)
{
    char *end = NULL;
    unsigned long ms = strtoul(text, &end, 10);
    return *end != '\0' || ms > 60000 ? 0 : ms * UINT64_C(1000000);
}

int main(int argc, char **argv)
{
    delay_ns = argc == 3 ? take_ms(argv[1]) : 0;
    spread_ns = argc == 3 ? take_ms(argv[2]) : 0;
    if (delay_ns == 0 || spread_ns == 0 || spread_ns > 2 * delay_ns) {
        (void)fprintf(stderr, "usage: weir-jepsen-delay MILLISECONDS SPREAD\n");
        return 2;
    }
    struct nfq_handle *h = nfq_open();
    struct nfq_q_handle *q = h != NULL ? nfq_create_queue(h, 0, on_packet, NULL) : NULL;
    if (q == NULL || nfq_set_mode(q, NFQNL_COPY_PACKET, PACKET_MAX) < 0 ||
        nfq_set_queue_maxlen(q, WAITING_MAX) < 0) {
        (void)fprintf(stderr, "weir-jepsen-delay: no queue: nfnetlink_queue? root?\n");
        return 1;
    }
    return run(h, q);
}
