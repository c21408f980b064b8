/* Load for `./dev bench chat`: N subscribers of one room in a process of their own, and a publisher
 * that offers a rate. Prints `name value unit`.
 *
 * A message carries the time it was meant to be sent (CLOCK_MONOTONIC ns, 16 hex digits) as the
 * beginning of its "text". Every frame is counted; latency is sampled once a read, at its first
 * whole message: the one that waited longest. Messages of both servers have the same size: nchan is
 * given the JSON that Weir's gateway makes of a record.
 *
 * usage: chat_load NAME PORT weir|nchan CONNECTIONS SECONDS RATE,RATE,... SERVER_PID,... */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS     1280 /* log-linear: 32 per power of two */
#define OPENING_MAX 128  /* handshakes at a time */
#define READ_SIZE   (1 << 20)
#define TICK_NS     1000000
#define STALL_NS    2500000000u
#define DRAIN_NS    15000000000u
#define BATCH_MAX   512

struct shared {
    _Atomic uint64_t ready, closed, frames, reads;
    _Atomic uint64_t latency[BUCKETS];
    _Atomic bool stop;
};

enum sub_state { SUB_CONNECTING, SUB_HANDSHAKE, SUB_OPEN, SUB_DEAD };
struct sub {
    int fd;
    uint8_t state, matched; /* of the blank line that ends the handshake */
    uint8_t head[10], head_len;
    uint64_t skip; /* bytes of the current frame still to come */
};

static struct shared *shared;
static const char *name, *pids;
static uint16_t port;
static bool weir;
static unsigned n_subs;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned bucket_of(uint64_t v)
{
    if (v < 32) {
        return (unsigned)v;
    }
    unsigned e = 63 - (unsigned)__builtin_clzll(v);
    unsigned b = (e - 4) * 32 + (unsigned)(v >> (e - 5) & 31);
    return b < BUCKETS ? b : BUCKETS - 1;
}

static double bucket_ms(unsigned b)
{
    uint64_t v = b < 32 ? b : (uint64_t)(32 + b % 32) << (b / 32 + 4 - 5);
    return (double)v / 1e6;
}

static int dial(int flags)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (fd < 0 || (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0 && errno != EINPROGRESS)) {
        perror("connect");
        exit(1);
    }
    return fd;
}

/* --- Subscribers
 * --------------------------------------------------------------------------------------------------
 */

static void write_all(int fd, const char *data, size_t n)
{
    while (n > 0) {
        ssize_t w = send(fd, data, n, MSG_NOSIGNAL);
        if (w < 0) {
            perror("send");
            exit(1);
        }
        data += w;
        n -= (size_t)w;
    }
}

static void send_handshake(struct sub *s)
{
    char request[512];
    int n =
        snprintf(request, sizeof(request),
                 "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Sec-WebSocket-Version: 13\r\n%s\r\n",
                 weir ? "/chat" : "/sub", weir ? "Sec-WebSocket-Protocol: weir.chat.v1\r\n" : "");
    write_all(s->fd, request, (size_t)n);
    s->state = SUB_HANDSHAKE;
}

/* A masked text frame; the mask is zeros. */
static void send_join(struct sub *s)
{
    static const char join[] = "\x81\xa0\0\0\0\0{\"type\":\"join\", \"room\":\"bench\"}";
    char frame[sizeof(join)];
    memcpy(frame, join, sizeof(join));
    frame[1] = (char)(0x80 | (sizeof(join) - 1 - 6));
    write_all(s->fd, frame, sizeof(join) - 1);
}

static void sample(const uint8_t *payload, size_t n, uint64_t now)
{
    const char *text = memmem(payload, n, "\"text\":\"", 8);
    if (text == NULL || n < (size_t)((const uint8_t *)text - payload) + 24) {
        return;
    }
    char digits[17];
    memcpy(digits, text + 8, 16);
    digits[16] = '\0';
    uint64_t sent = strtoull(digits, NULL, 16);
    if (sent > 0 && sent < now) {
        shared->latency[bucket_of(now - sent)]++;
    }
}

static uint64_t payload_size(const uint8_t *head)
{
    unsigned n = head[1] & 0x7f;
    if (n == 126) {
        return (uint64_t)head[2] << 8 | head[3];
    }
    uint64_t size = 0;
    for (unsigned i = 2; n == 127 && i < 10; i++) {
        size = size << 8 | head[i];
    }
    return n == 127 ? size : n;
}

static unsigned head_size(const uint8_t *head)
{
    unsigned n = head[1] & 0x7f;
    return n == 126 ? 4 : n == 127 ? 10 : 2;
}

/* Counts the frames that begin in these bytes. */
static void take_frames(struct sub *s, const uint8_t *p, size_t n)
{
    uint64_t now = now_ns(), frames = 0;
    bool sampled = false;
    while (n > 0) {
        if (s->skip > 0) {
            size_t take = n < s->skip ? n : (size_t)s->skip;
            s->skip -= take;
            p += take;
            n -= take;
            continue;
        }
        s->head[s->head_len++] = *p++;
        n--;
        if (s->head_len < 2 || s->head_len < head_size(s->head)) {
            continue;
        }
        s->skip = payload_size(s->head);
        s->head_len = 0;
        frames += (s->head[0] & 0x0f) == 1;
        if (!sampled && n >= s->skip) {
            sample(p, (size_t)s->skip, now);
            sampled = true;
        }
    }
    shared->frames += frames;
    shared->reads++;
}

static void sub_read(struct sub *s, uint8_t *buffer)
{
    ssize_t r = recv(s->fd, buffer, READ_SIZE, MSG_DONTWAIT);
    const uint8_t *p = buffer;
    if (r < 0 && errno == EAGAIN) {
        return;
    }
    if (r <= 0) {
        s->state = SUB_DEAD;
        shared->closed++;
        (void)close(s->fd);
        return;
    }
    size_t n = (size_t)r;
    while (s->state == SUB_HANDSHAKE && n > 0) {
        s->matched = *p == (uint8_t) "\r\n\r\n"[s->matched] ? s->matched + 1 : *p == '\r';
        p++;
        n--;
        if (s->matched == 4) {
            s->state = SUB_OPEN;
            shared->ready++;
            if (weir) {
                send_join(s);
            }
        }
    }
    if (n > 0) {
        take_frames(s, p, n);
    }
}

static void subscribe(void)
{
    struct sub *subs = calloc(n_subs, sizeof(*subs));
    uint8_t *buffer = malloc(READ_SIZE);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    unsigned opened = 0;
    struct epoll_event events[512];
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (!shared->stop && subs != NULL && buffer != NULL) {
        while (opened < n_subs && opened < shared->ready + OPENING_MAX) {
            struct sub *s = &subs[opened++];
            struct epoll_event e = {.events = EPOLLOUT, .data.ptr = s};
            s->fd = dial(SOCK_NONBLOCK);
            (void)epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e);
        }
        int k = epoll_wait(ep, events, 512, 100);
        for (int i = 0; i < k; i++) {
            struct sub *s = events[i].data.ptr;
            if (s->state == SUB_CONNECTING) {
                struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
                send_handshake(s);
                (void)epoll_ctl(ep, EPOLL_CTL_MOD, s->fd, &e);
            } else if (s->state != SUB_DEAD) {
                sub_read(s, buffer);
            }
        }
    }
    _exit(0);
}

/* --- The server's resources
 * ---------------------------------------------------------------------------------------- */

static double each_pid(double (*value)(const char *pid))
{
    char list[256], *save = NULL;
    double sum = 0;
    (void)snprintf(list, sizeof(list), "%s", pids);
    for (char *p = strtok_r(list, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
        sum += value(p);
    }
    return sum;
}

static double cpu_seconds(const char *pid)
{
    char path[64], line[1024];
    unsigned long user = 0, sys = 0;
    (void)snprintf(path, sizeof(path), "/proc/%s/stat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return 0;
    }
    size_t n = fread(line, 1, sizeof(line) - 1, f);
    (void)fclose(f);
    line[n] = '\0';
    const char *p = strrchr(line, ')');
    if (p != NULL) {
        (void)sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
    }
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double rss_bytes(const char *pid)
{
    char path[64], line[256];
    double kib = 0;
    (void)snprintf(path, sizeof(path), "/proc/%s/status", pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtod(line + 6, NULL);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return kib * 1024;
}

/* --- Publishing
 * ------------------------------------------------------------------------------------------------------
 */

static int pub_fd;

static void drain_answers(void)
{
    char buffer[65536];
    while (recv(pub_fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0) {}
}

/* Messages `from` to `to`, due gap_ns apart from `start`: one request of lines for Weir, a request
 * each for nchan. */
static void publish(uint64_t start, double gap_ns, uint64_t from, uint64_t to)
{
    static char body[BATCH_MAX * 400], out[sizeof(body) + BATCH_MAX * 120];
    size_t n = 0, len = 0;
    for (uint64_t i = from; i < to; i++) {
        unsigned long long due = start + (uint64_t)((double)i * gap_ns);
        char json[400];
        int size =
            snprintf(json, sizeof(json),
                     "{\"type\":\"message\",\"room\":\"bench\",\"offset\":%09llu,\"time\":"
                     "1700000000000,\"user\":\"u00000\",\"display_name\":\"u00000\",\"text\":"
                     "\"%016llx\",\"nonce\":\"%016llx\",\"badges\":[]}",
                     (unsigned long long)i, due, due);
        if (weir) {
            len += (size_t)snprintf(body + len, sizeof(body) - len, "%016llx\n", due);
            continue;
        }
        n += (size_t)snprintf(
            out + n, sizeof(out) - n,
            "POST /pub HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", size, json);
    }
    if (weir) {
        n = (size_t)snprintf(out, sizeof(out),
                             "POST /pub HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                             len);
        memcpy(out + n, body, len);
        n += len;
    }
    write_all(pub_fd, out, n);
    drain_answers();
}

static void sleep_until(uint64_t at)
{
    struct timespec t = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void publish_all(uint64_t start, double gap_ns, uint64_t count)
{
    uint64_t done = 0;
    while (done < count) {
        uint64_t now = now_ns();
        uint64_t due = now < start ? 0 : (uint64_t)((double)(now - start) / gap_ns) + 1;
        due = due < count ? due : count;
        if (due > done) {
            uint64_t to = due - done > BATCH_MAX ? done + BATCH_MAX : due;
            publish(start, gap_ns, done, to);
            done = to;
        } else {
            uint64_t next = start + (uint64_t)((double)done * gap_ns);
            sleep_until(next > now + TICK_NS ? next : now + TICK_NS);
        }
    }
}

/* Waits until `want` frames have come or none comes any more; returns when the last came. */
static uint64_t wait_for(uint64_t want)
{
    uint64_t began = now_ns(), last_at = began, seen = 0;
    for (;;) {
        uint64_t have = shared->frames, now = now_ns();
        if (have != seen) {
            seen = have;
            last_at = now;
        }
        if (have >= want || now - last_at > STALL_NS || now - began > DRAIN_NS) {
            return last_at;
        }
        drain_answers();
        sleep_until(now + TICK_NS);
    }
}

static double percentile(const uint64_t *h, double p)
{
    uint64_t total = 0, sum = 0;
    for (unsigned i = 0; i < BUCKETS; i++) {
        total += h[i];
    }
    for (unsigned i = 0; i < BUCKETS; i++) {
        sum += h[i];
        if ((double)sum > (double)total * p) {
            return bucket_ms(i);
        }
    }
    return 0;
}

/* One offered rate. Returns what was delivered a second if all of it came and p99 stayed below a
 * second, else 0. */
static double run_step(double offered, double seconds, double *peak)
{
    uint64_t before[BUCKETS], h[BUCKETS];
    double per_s = offered / n_subs;
    uint64_t count = (uint64_t)(per_s * seconds) < 5 ? 5 : (uint64_t)(per_s * seconds);
    for (unsigned i = 0; i < BUCKETS; i++) {
        before[i] = shared->latency[i];
    }
    double cpu = each_pid(cpu_seconds);
    uint64_t frames = shared->frames, reads = shared->reads, want = count * n_subs;
    uint64_t start = now_ns() + TICK_NS;
    publish_all(start, 1e9 / per_s, count);
    uint64_t end = wait_for(frames + want);
    cpu = each_pid(cpu_seconds) - cpu;
    uint64_t got = shared->frames - frames;
    for (unsigned i = 0; i < BUCKETS; i++) {
        h[i] = shared->latency[i] - before[i];
    }
    double took = (double)(end - start) / 1e9, planned = (double)count / per_s;
    double rate = (double)got / (took > planned ? took : planned), p99 = percentile(h, 0.99);
    *peak = rate > *peak ? rate : *peak;
    char key[128];
    (void)snprintf(key, sizeof(key), "%s.n%u.offer%.0f", name, n_subs, offered);
    printf("%s.delivered %.0f deliveries/s\n", key, rate);
    printf("%s.p50 %.2f ms\n%s.p99 %.2f ms\n", key, percentile(h, 0.5), key, p99);
    printf("%s.server_cpu_per_M %.3f s\n", key, cpu * 1e6 / (double)(got > 0 ? got : 1));
    printf("%s.messages_per_read %.1f x\n", key, (double)got / (double)(shared->reads - reads + 1));
    if (got < want) {
        printf("%s.lost %llu deliveries\n", key, (unsigned long long)(want - got));
    }
    (void)fflush(stdout);
    return got >= want && p99 < 1000 && rate > 0.85 * offered ? rate : 0;
}

static bool connect_all(pid_t child)
{
    double rss = each_pid(rss_bytes), cpu = each_pid(cpu_seconds);
    uint64_t began = now_ns();
    while (shared->ready < n_subs) {
        if (now_ns() - began > 120000000000u || shared->closed > 0 || kill(child, 0) != 0) {
            (void)fprintf(stderr, "%s: %llu of %u connected, %llu closed\n", name,
                          (unsigned long long)shared->ready, n_subs,
                          (unsigned long long)shared->closed);
            return false;
        }
        sleep_until(now_ns() + 10 * TICK_NS);
    }
    sleep_until(now_ns() + 1000 * (uint64_t)TICK_NS);
    printf("%s.n%u.server_cpu_per_connection %.1f us\n", name, n_subs,
           (each_pid(cpu_seconds) - cpu) * 1e6 / n_subs);
    printf("%s.n%u.server_rss_per_connection %.0f bytes\n", name, n_subs,
           (each_pid(rss_bytes) - rss) / n_subs);
    (void)fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        (void)fprintf(stderr, "usage: chat_load NAME PORT weir|nchan CONNECTIONS SECONDS RATE,... "
                              "SERVER_PID,...\n");
        return 2;
    }
    name = argv[1];
    port = (uint16_t)strtoul(argv[2], NULL, 10);
    weir = strcmp(argv[3], "weir") == 0;
    n_subs = (unsigned)strtoul(argv[4], NULL, 10);
    double seconds = strtod(argv[5], NULL), best = 0, peak = 0;
    unsigned failed = 0;
    pids = argv[7];
    (void)signal(SIGPIPE, SIG_IGN);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        subscribe();
    }
    if (child < 0 || !connect_all(child)) {
        return 1;
    }
    pub_fd = dial(0);
    char *save = NULL;
    for (char *r = strtok_r(argv[6], ",", &save); r != NULL; r = strtok_r(NULL, ",", &save)) {
        double rate = run_step(strtod(r, NULL), seconds, &peak);
        failed = rate == 0 ? failed + 1 : 0;
        if (failed == 2) { /* one may be the machine's */
            break;
        }
        best = rate > best ? rate : best;
    }
    printf("%s.n%u.max_sustained %.0f deliveries/s\n", name, n_subs, best);
    printf("%s.n%u.max_delivered %.0f deliveries/s\n", name, n_subs, peak);
    if (shared->closed > 0) {
        printf("%s.n%u.closed %llu connections\n", name, n_subs,
               (unsigned long long)shared->closed);
    }
    shared->stop = true;
    return 0;
}
