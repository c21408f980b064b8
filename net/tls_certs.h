/* Certificates for the nodes of a cluster: an authority of its own and, signed by it, one
 * certificate per node that names its hosts. EC P-256, X.509 v3. Blocks; no thread of its own. */
#ifndef NET_TLS_CERTS_H
#define NET_TLS_CERTS_H

#include <stdbool.h>

#include "base/error.h"

#define TLS_CERT_HOSTS_MAX 8

struct tls_cert_node {
    const char *name;                      /* the subject, and NAME.pem, NAME.key */
    const char *hosts[TLS_CERT_HOSTS_MAX]; /* addresses or names it is dialled by; the name too */
    unsigned n_hosts;
};

/* Makes ca.pem and ca.key in `dir` (which must exist) unless both are there. WEIR_EEXISTS when only
 * one of them is. Keys are for their owner alone (0600). */
int tls_certs_authority(const char *dir, unsigned days, bool *ret_made, struct error *err);
/* Makes NAME.pem and NAME.key, signed by the authority in `dir`; overwrites neither:
 * WEIR_EEXISTS. */
int tls_certs_node(const char *dir, const struct tls_cert_node *node, unsigned days,
                   struct error *err);

#endif
