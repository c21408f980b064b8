/* Proof of knowledge of the cluster secret: HMAC-SHA-512-256 (libsodium crypto_auth) under a key
 * hashed from the secret, over the prover's side ("client", "broker") and both nonces, so a proof
 * can be neither replayed nor reflected. Any thread; no state. */
#ifndef PROTO_AUTH_H
#define PROTO_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AUTH_NONCE_SIZE 32
#define AUTH_PROOF_SIZE 32

/* `side` is at most 16 characters. The nonces are given in the same order by both sides. */
void auth_prove(const char *secret, const char *side, const uint8_t nonce_a[AUTH_NONCE_SIZE],
                const uint8_t nonce_b[AUTH_NONCE_SIZE], uint8_t ret_proof[AUTH_PROOF_SIZE]);
/* Constant time. `proof_len` is whatever the peer sent. */
bool auth_check(const char *secret, const char *side, const uint8_t nonce_a[AUTH_NONCE_SIZE],
                const uint8_t nonce_b[AUTH_NONCE_SIZE], const void *proof, size_t proof_len);

#endif
