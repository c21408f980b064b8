/* TLS 1.3 with certificates on both sides, as an env whose sockets are encrypted.
 *
 * A tls_net wraps the sockets of another env: env_listen, env_connect and everything on the streams
 * that come of them keep the contract of base/env.h, but a stream is handed over, or connected,
 * only when both sides have shown a certificate signed by the cluster's CA, and the dialled one's
 * names the host that was dialled. A handshake that fails, or is not over within TLS_HANDSHAKE_US,
 * is WEIR_EAUTH to the dialler and a line in the log on both sides. Sockets only: clock, timers and
 * disk are the wrapped env's. Data are copied once each way, sends take memory of their size until
 * they have left. Loop thread only. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/env.h"

#define TLS_HANDSHAKE_US   5000000u
#define TLS_HANDSHAKES_MAX 256u /* accepted and not done, per listener; more are closed at once */

struct tls_files {
    const char *ca;   /* certificates trusted, PEM */
    const char *cert; /* our own and what leads to the CA, PEM */
    const char *key;  /* PEM, without a pass phrase */
};

struct tls_net;
/* Reads the files; their names are copied. What is wrong with which of them is in `err`:
 * WEIR_ECONFIG. */
int tls_net_new(struct env *env, const struct tls_files *files, struct tls_net **ret_net,
                struct error *err);
/* Reads the files again, for handshakes from now on; streams that are there live on. On failure
 * what was read before stays in force. */
int tls_net_reload(struct tls_net *net, struct error *err);
/* Listeners and streams are closed. NULL is allowed. */
void tls_net_free(struct tls_net *net);
struct env *tls_net_env(struct tls_net *net);

#endif
