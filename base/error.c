#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *error_name(int code)
{
    switch (code) {
#define X(name, value, text)                                                                       \
    case name:                                                                                     \
        return text;
        ERROR_MAP(X)
#undef X
    case 0:
        return "ok";
    default:
        return strerrordesc_np(-code) != NULL ? strerrordesc_np(-code) : "unknown error";
    }
}

int(error_set)(struct error *err, int code, const char *fmt, ...)
{
    if (err == NULL) {
        return code;
    }
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    err->code = code;
    return code;
}

int error_from_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return WEIR_ENOSPC;
    case ENOMEM:
        return WEIR_ENOMEM;
    case EIO:
    case 0: /* a failure that left no errno is still one */
        return WEIR_EIO;
    default:
        return -errnum;
    }
}

int(error_errno)(struct error *err, const char *fmt, ...)
{
    int errnum = errno;
    int code = error_from_errno(errnum);
    if (err == NULL) {
        return code;
    }
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof(err->text)) {
        const char *what = strerrordesc_np(errnum);
        (void)snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s",
                       what != NULL ? what : "unknown error");
    }
    err->code = code;
    return code;
}
