/* Errors: one table of codes for programs, one text for people.
 *
 * Functions return 0 or a negative WEIR_E code; the text goes into the caller's `struct error`,
 * which may be NULL. System errors are carried as -errno (all WEIR_E codes are <= -1000, so the two
 * ranges never meet). Any thread; no allocation. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#define ERROR_MAP(X)                                                                               \
    X(WEIR_EINVAL, -1001, "invalid argument")                                                      \
    X(WEIR_ECORRUPT, -1002, "stored data failed its checksum")                                     \
    X(WEIR_EFENCED, -1003, "another owner took over")                                              \
    X(WEIR_ENOTFOUND, -1004, "not found")                                                          \
    X(WEIR_EEXISTS, -1005, "already exists")                                                       \
    X(WEIR_ETOOBIG, -1006, "too big")                                                              \
    X(WEIR_EBUSY, -1007, "too much in flight, try again later")                                    \
    X(WEIR_ENOTLEADER, -1008, "this node is not the leader")                                       \
    X(WEIR_EUNKNOWN, -1009, "the outcome is unknown: it may or may not have happened")             \
    X(WEIR_EPROTO, -1010, "protocol violation")                                                    \
    X(WEIR_ECLOSED, -1011, "closed")                                                               \
    X(WEIR_ETIMEOUT, -1012, "timed out")                                                           \
    X(WEIR_ENOMEM, -1013, "out of memory")                                                         \
    X(WEIR_ENOSPC, -1014, "disk full")                                                             \
    X(WEIR_EIO, -1015, "input/output error")                                                       \
    X(WEIR_EAUTH, -1016, "not authorised")                                                         \
    X(WEIR_ERANGE, -1017, "out of range")                                                          \
    X(WEIR_EVERSION, -1018, "unsupported version")                                                 \
    X(WEIR_EUNAVAILABLE, -1019, "not available now")                                               \
    X(WEIR_ECONFIG, -1020, "wrong configuration")                                                  \
    X(WEIR_ESEQUENCE, -1021, "not the producer's next batch")

#define X(name, code, text) name = code,
enum weir_error { ERROR_MAP(X) };
#undef X

#define ERROR_TEXT_MAX 256

struct error {
    int code;
    char text[ERROR_TEXT_MAX];
};

/* The table's text for a WEIR_E code, strerror for -errno; never NULL. */
const char *error_name(int code);

/* Fill `err` (may be NULL) and return `code`. The text is cut at ERROR_TEXT_MAX. */
int error_set(struct error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__
/* It sees one file at a time: that the code comes back is half of what there is to know. */
#define error_set(err, code, ...) (error_set(err, code, __VA_ARGS__), (code))
#endif

/* Same with errno appended: ENOSPC becomes WEIR_ENOSPC, ENOMEM WEIR_ENOMEM, EIO WEIR_EIO, others
 * -errno. */
int error_errno(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#ifdef __clang_analyzer__
#define error_errno(err, ...) (error_errno(err, __VA_ARGS__), WEIR_EIO)
#endif

/* Maps a positive errno value to the code that error_errno would return. */
int error_from_errno(int errnum);

#endif
