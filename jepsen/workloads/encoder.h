/* A real encoder: ffmpeg, which sends a picture that was encoded beforehand (so that it costs next
 * to nothing) over RTMP, at the speed of life, with the number of its session marked in every key
 * frame (hls.h). Loop thread; polled. */
#ifndef JEPSEN_WORKLOADS_ENCODER_H
#define JEPSEN_WORKLOADS_ENCODER_H

#include "jepsen/workloads/workload.h"

struct encoder {
    pid_t pid; /* 0: none */
    int fd;    /* what it says */
    bool live; /* the server has let it begin */
    char said[512];
    size_t n_said;
};

/* Half an hour of it, in the run's folder. Blocks for a second or two. */
int encoder_make_picture(struct run *run, struct error *err);
void encoder_drop_picture(struct run *run);
int encoder_start(struct encoder *e, struct run *run, const struct host *host, const char *key,
                  unsigned session, struct error *err);
/* Notices what has happened since. */
void encoder_poll(struct encoder *e);
bool encoder_runs(const struct encoder *e);
/* SIGTERM: it takes leave properly; SIGKILL: its line is dropped. */
void encoder_signal(struct encoder *e, int signal);
/* At once, and waits. */
void encoder_close(struct encoder *e);

#endif
