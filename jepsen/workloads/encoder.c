#include "jepsen/workloads/encoder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jepsen/workloads/hls.h"

#define PICTURE_S 20
#define REPEATS   90
#define PATH_SIZE 512
#define QUIET     "-hide_banner -loglevel error -nostdin -y"
#define LIVE_SIGN "Output #0"

/* 16 frames a second, a key frame every half: each part begins with one, so each has a mark. It is
 * kept in a container with parameter sets before every key frame: marks go where those are. */
#define MAKE                                                                                       \
    "ffmpeg " QUIET " -f lavfi -i testsrc2=size=256x144:rate=16"                                   \
    " -f lavfi -i sine=frequency=330:sample_rate=48000 -t %d -c:v libx264 -preset ultrafast"       \
    " -pix_fmt yuv420p -bf 0 -g 8 -sc_threshold 0 -b:v 120k -c:a aac -ac 1 -b:a 32k %s/once.ts"    \
    " && ffmpeg " QUIET " -stream_loop %d -i %s/once.ts -c copy %s/picture.ts"                     \
    " && rm %s/once.ts"

int encoder_make_picture(struct run *run, struct error *err)
{
    const char *dir = run_dir(run);
    char line[4 * PATH_SIZE];
    (void)snprintf(line, sizeof(line), MAKE, PICTURE_S, dir, REPEATS - 1, dir, dir, dir);
    const char *const argv[] = {"timeout", "60", "sh", "-c", line, NULL};
    int status = hosts_run(run_hosts(run), argv);
    return status == 0 ? 0
                       : error_set(err, WEIR_EIO, "no picture: ffmpeg ended with %d (see commands)",
                                   status);
}

void encoder_drop_picture(struct run *run)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/picture.ts", run_dir(run));
    (void)unlink(path);
}

/* In the child. */
static void become_ffmpeg(const char *picture, const char *mark, const char *url, int out)
{
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(nothing, 1) < 0 || dup2(out, 2) < 0) {
        _exit(126);
    }
    (void)execlp("ffmpeg", "ffmpeg", "-hide_banner", "-loglevel", "info", "-nostats", "-nostdin",
                 "-re", "-i", picture, "-c", "copy", "-bsf:v", mark, "-flush_packets", "1", "-f",
                 "flv", url, (char *)NULL);
    _exit(127);
}

int encoder_start(struct encoder *e, struct run *run, const struct host *host, const char *key,
                  unsigned session, struct error *err)
{
    char picture[PATH_SIZE], mark[128], url[256];
    int pipes[2];
    (void)snprintf(picture, sizeof(picture), "%s/picture.ts", run_dir(run));
    (void)snprintf(mark, sizeof(mark),
                   "h264_metadata=sei_user_data=" HLS_MARK_UUID "+" HLS_MARK_PREFIX "%u", session);
    (void)snprintf(url, sizeof(url), "rtmp://%s:%d/live/%s", host->address, HOST_PORT_RTMP, key);
    if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) != 0) {
        return error_set(err, WEIR_EIO, "no pipe: %s", strerror(errno));
    }
    *e = (struct encoder){.fd = pipes[0]};
    e->pid = fork();
    if (e->pid == 0) {
        become_ffmpeg(picture, mark, url, pipes[1]);
    }
    (void)close(pipes[1]);
    if (e->pid < 0) {
        (void)close(pipes[0]);
        e->pid = 0;
        return error_set(err, WEIR_EIO, "can't start ffmpeg: %s", strerror(errno));
    }
    return 0;
}

/* The newest of what it says, with the sign that it has begun looked for. */
static void listen(struct encoder *e)
{
    ssize_t n;
    do {
        if (e->n_said > sizeof(e->said) / 2) {
            size_t half = e->n_said / 2;
            memmove(e->said, e->said + half, e->n_said - half);
            e->n_said -= half;
        }
        n = read(e->fd, e->said + e->n_said, sizeof(e->said) - 1 - e->n_said);
        e->n_said += n > 0 ? (size_t)n : 0;
        e->said[e->n_said] = '\0';
        e->live |= strstr(e->said, LIVE_SIGN) != NULL;
    } while (n > 0);
}

static void gone(struct encoder *e)
{
    (void)close(e->fd);
    e->pid = 0;
    e->live = false;
}

void encoder_poll(struct encoder *e)
{
    if (e->pid != 0) {
        listen(e);
        if (waitpid(e->pid, NULL, WNOHANG) == e->pid) {
            gone(e);
        }
    }
}

bool encoder_runs(const struct encoder *e)
{
    return e->pid != 0;
}

void encoder_signal(struct encoder *e, int signal)
{
    if (e->pid != 0) {
        (void)kill(e->pid, signal);
    }
}

void encoder_close(struct encoder *e)
{
    if (e->pid != 0) {
        (void)kill(e->pid, SIGKILL);
        while (waitpid(e->pid, NULL, 0) < 0 && errno == EINTR) {}
        gone(e);
    }
}
