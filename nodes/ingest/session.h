/* One encoder's connection, and after its end what is left to do for it.
 *
 * The key is checked against the accounts view, a SessionClaim is committed and folded, only then
 * the encoder is told to start. A newer claim on the channel ends the session; so does a node that
 * is cut off (reach.h), and a minute in which nothing of the stream was stored, for whatever
 * reason: the backlog has lost what is missing by then. The encoder is told, and closed, so that it
 * dials another node. States: see the table in session.c. Loop thread. */
#ifndef NODES_INGEST_SESSION_H
#define NODES_INGEST_SESSION_H

#include "nodes/role.h"
#include "views/lifecycle.h"

struct session;

struct session_owner {
    void *data;
    /* The session is gone after this. */
    void (*closed)(void *data, struct session *s);
};

/* Takes the connection over, also on failure. */
int session_new(struct node *node, const struct session_owner *owner, struct env_stream *stream,
                struct session **ret_session);
/* Ends it at once; `closed` does not run. */
void session_kill(struct session *s);
/* Tell it of every accepted claim and every end of a broadcast. */
void session_on_claim(struct session *s, const char *channel, int64_t offset,
                      uint64_t broadcast_id);
void session_on_end(struct session *s, const char *channel);
/* Nothing can be stored from here: it is refused, or cut off. Harmless when said again. */
void session_on_cut_off(struct session *s);
/* Is the channel this session's, with frames coming in? */
bool session_is_live(const struct session *s, const char *channel);

#endif
