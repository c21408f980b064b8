#include "net/tls_certs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE    1024
#define NAMES_SIZE   2048
#define CURVE        "P-256"
#define SERIAL_BITS  127
#define DAY_SECONDS  86400L
#define BACK_SECONDS 3600L /* clocks of other nodes may be behind */

static int failed(struct error *err, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return error_set(err, WEIR_EIO, "%s: %s", what, text != NULL ? text : "unknown reason");
}

static void path_of(const char *dir, const char *name, const char *suffix, char out[PATH_SIZE])
{
    (void)snprintf(out, PATH_SIZE, "%s/%s%s", dir, name, suffix);
}

/* --- Files --- */

static FILE *create(const char *path, mode_t mode, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (fd < 0 && errno == EEXIST) {
        (void)error_set(err, WEIR_EEXISTS, "%s: already exists", path);
    } else if (f == NULL) {
        (void)error_errno(err, "create %s", path);
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return f;
}

static int finish(FILE *f, bool written, const char *path, struct error *err)
{
    bool good = written && fflush(f) == 0 && fsync(fileno(f)) == 0;
    good = fclose(f) == 0 && good;
    if (!good) {
        (void)unlink(path);
        return error_set(err, WEIR_EIO, "write %s: failed", path);
    }
    return 0;
}

static int write_key(const char *path, EVP_PKEY *key, struct error *err)
{
    FILE *f = create(path, 0600, err);
    return f == NULL ? WEIR_EEXISTS
                     : finish(f, PEM_write_PKCS8PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1,
                              path, err);
}

static int write_cert(const char *path, X509 *cert, struct error *err)
{
    FILE *f = create(path, 0644, err);
    return f == NULL ? WEIR_EEXISTS : finish(f, PEM_write_X509(f, cert) == 1, path, err);
}

/* Both or none: a certificate without its key is no good. */
static int write_pair(const char *dir, const char *name, X509 *cert, EVP_PKEY *key,
                      struct error *err)
{
    char cert_path[PATH_SIZE], key_path[PATH_SIZE];
    struct error why = {0};
    path_of(dir, name, ".pem", cert_path);
    path_of(dir, name, ".key", key_path);
    if (access(cert_path, F_OK) == 0) {
        return error_set(err, WEIR_EEXISTS, "%s: already exists", cert_path);
    }
    int rv = write_key(key_path, key, &why);
    if (rv == 0) {
        rv = write_cert(cert_path, cert, &why);
        if (rv != 0) {
            (void)unlink(key_path);
        }
    }
    return rv == 0 ? 0 : error_set(err, why.code, "%s", why.text);
}

/* --- Certificates --- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_serial(X509 *cert)
{
    BIGNUM *n = BN_new();
    bool ok = n != NULL && BN_rand(n, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
              BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
    BN_free(n);
    return ok;
}

/* Everything but extensions and signature. */
static X509 *cert_begin(const char *name, EVP_PKEY *key, unsigned days)
{
    X509 *cert = X509_new();
    if (cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -BACK_SECONDS) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * DAY_SECONDS) != NULL &&
        X509_set_pubkey(cert, key) == 1 &&
        X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                                   (const unsigned char *)name, -1, -1, 0) == 1) {
        return cert;
    }
    X509_free(cert);
    return NULL;
}

static X509 *authority_cert(EVP_PKEY *key, unsigned days)
{
    X509 *cert = cert_begin("Weir cluster", key, days);
    if (cert != NULL && X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
        add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
        add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(cert, cert, NID_subject_key_identifier, "hash") &&
        X509_sign(cert, key, EVP_sha256()) > 0) {
        return cert;
    }
    X509_free(cert);
    return NULL;
}

/* "DNS:n1,IP:10.0.0.1,..." */
static void alternative_names(const struct tls_cert_node *node, char out[NAMES_SIZE])
{
    size_t n = (size_t)snprintf(out, NAMES_SIZE, "DNS:%s", node->name);
    for (unsigned i = 0; i < node->n_hosts && n < NAMES_SIZE; i++) {
        unsigned char address[16];
        bool ip = inet_pton(AF_INET, node->hosts[i], address) == 1 ||
                  inet_pton(AF_INET6, node->hosts[i], address) == 1;
        n += (size_t)snprintf(out + n, NAMES_SIZE - n, ",%s:%s", ip ? "IP" : "DNS", node->hosts[i]);
    }
}

static X509 *node_cert(const struct tls_cert_node *node, EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key,
                       unsigned days)
{
    char names[NAMES_SIZE];
    X509 *cert = cert_begin(node->name, key, days);
    alternative_names(node, names);
    if (cert != NULL && X509_set_issuer_name(cert, X509_get_subject_name(ca)) == 1 &&
        add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
        add_extension(cert, ca, NID_subject_alt_name, names) &&
        add_extension(cert, ca, NID_authority_key_identifier, "keyid") &&
        X509_sign(cert, ca_key, EVP_sha256()) > 0) {
        return cert;
    }
    X509_free(cert);
    return NULL;
}

/* --- The two calls --- */

int tls_certs_authority(const char *dir, unsigned days, bool *ret_made, struct error *err)
{
    char cert_path[PATH_SIZE], key_path[PATH_SIZE];
    path_of(dir, "ca", ".pem", cert_path);
    path_of(dir, "ca", ".key", key_path);
    bool has_cert = access(cert_path, F_OK) == 0, has_key = access(key_path, F_OK) == 0;
    if (has_cert != has_key) {
        return error_set(err, WEIR_EEXISTS, "%s is there without %s",
                         has_cert ? cert_path : key_path, has_cert ? key_path : cert_path);
    }
    if (has_cert) {
        *ret_made = false;
        return 0;
    }
    EVP_PKEY *key = EVP_EC_gen(CURVE);
    X509 *cert = key != NULL ? authority_cert(key, days) : NULL;
    int rv =
        cert == NULL ? failed(err, "make an authority") : write_pair(dir, "ca", cert, key, err);
    X509_free(cert);
    EVP_PKEY_free(key);
    *ret_made = rv == 0 ? true : *ret_made;
    return rv;
}

static int read_authority(const char *dir, X509 **ret_cert, EVP_PKEY **ret_key, struct error *err)
{
    char cert_path[PATH_SIZE], key_path[PATH_SIZE];
    path_of(dir, "ca", ".pem", cert_path);
    path_of(dir, "ca", ".key", key_path);
    FILE *cert_file = fopen(cert_path, "re"), *key_file = fopen(key_path, "re");
    X509 *cert = cert_file != NULL ? PEM_read_X509(cert_file, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = key_file != NULL ? PEM_read_PrivateKey(key_file, NULL, NULL, NULL) : NULL;
    if (cert_file != NULL) {
        (void)fclose(cert_file);
    }
    if (key_file != NULL) {
        (void)fclose(key_file);
    }
    if (cert == NULL || key == NULL || X509_check_private_key(cert, key) != 1) {
        X509_free(cert);
        EVP_PKEY_free(key);
        ERR_clear_error();
        return error_set(err, WEIR_ECONFIG, "%s and ca.key: not a certificate and its key",
                         cert_path);
    }
    *ret_cert = cert;
    *ret_key = key;
    return 0;
}

int tls_certs_node(const char *dir, const struct tls_cert_node *node, unsigned days,
                   struct error *err)
{
    X509 *ca = NULL;
    EVP_PKEY *ca_key = NULL;
    int rv = read_authority(dir, &ca, &ca_key, err);
    if (rv != 0) {
        return rv;
    }
    EVP_PKEY *key = EVP_EC_gen(CURVE);
    X509 *cert = key != NULL ? node_cert(node, key, ca, ca_key, days) : NULL;
    rv = cert == NULL ? failed(err, "make a certificate")
                      : write_pair(dir, node->name, cert, key, err);
    X509_free(cert);
    EVP_PKEY_free(key);
    X509_free(ca);
    EVP_PKEY_free(ca_key);
    return rv;
}
