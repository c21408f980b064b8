#include "media/sandbox.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_FILES_MAX 16

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#endif
#ifndef UNDER_ASAN
#define UNDER_ASAN 0
#endif

/* Debian 12's headers have Landlock ABI 1 only; sizes tell the kernel which one this is
 * (landlock(7)). */
struct landlock_rules {
    uint64_t fs, net, scoped;
};
#define LANDLOCK_CREATE_VERSION 1u
#define LANDLOCK_FS_ALL         0xffffu /* ABI 5 */
#define LANDLOCK_NET_ALL        3u
#define LANDLOCK_SCOPED_ALL     3u

static int limit(int resource, rlim_t value, struct error *err)
{
    struct rlimit l = {value, value};
    return setrlimit((__rlimit_resource_t)resource, &l) < 0 ? error_errno(err, "setrlimit") : 0;
}

static int set_limits(unsigned long memory_bytes, struct error *err)
{
    int rc = limit(RLIMIT_CORE, 0, err);
    if (rc == 0) {
        rc = limit(RLIMIT_FSIZE, 0, err);
    }
    if (rc == 0) {
        rc = limit(RLIMIT_NOFILE, OPEN_FILES_MAX, err);
    }
    if (rc == 0 && !UNDER_ASAN) { /* whose shadow is 20 TiB of address space */
        rc = limit(RLIMIT_AS, memory_bytes, err);
    }
    return rc;
}

/* A ruleset without rules: nothing handled is allowed. Rights that this kernel does not know yet
 * are left out. */
static int enter_landlock(struct error *err)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_VERSION);
    if (abi < 1) {
        return 0; /* not in this kernel: seccomp holds alone */
    }
    static const uint16_t fs_bits[] = {13, 14, 15, 15, 16};
    unsigned bits = abi >= 5 ? 16 : fs_bits[abi - 1];
    struct landlock_rules rules = {.fs = LANDLOCK_FS_ALL >> (16 - bits),
                                   .net = abi >= 4 ? LANDLOCK_NET_ALL : 0,
                                   .scoped = abi >= 6 ? LANDLOCK_SCOPED_ALL : 0};
    size_t size = abi >= 6   ? sizeof(rules)
                  : abi >= 4 ? offsetof(struct landlock_rules, scoped)
                             : offsetof(struct landlock_rules, net);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0) {
        int rc = error_errno(err, "landlock");
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    close(fd);
    return 0;
}

static const int allowed[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(sched_yield),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getrandom),
    SCMP_SYS(sysinfo),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(fstat),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(getrusage),
#if UNDER_ASAN
    SCMP_SYS(sigaltstack),
    SCMP_SYS(prctl),
    SCMP_SYS(getrlimit),
    SCMP_SYS(prlimit64),
    SCMP_SYS(tgkill),
#endif
};

/* Libraries look for files and for newer calls, and go on without. */
static const struct {
    int call;
    uint16_t error;
} refused[] = {
    {SCMP_SYS(open), EACCES},       {SCMP_SYS(openat), EACCES},
    {SCMP_SYS(newfstatat), EACCES}, {SCMP_SYS(stat), EACCES},
    {SCMP_SYS(access), EACCES},     {SCMP_SYS(readlink), EACCES},
    {SCMP_SYS(faccessat), EACCES},  {SCMP_SYS(ioctl), ENOTTY},
    {SCMP_SYS(clone3), ENOSYS},     {SCMP_SYS(sched_setscheduler), EPERM},
#if !UNDER_ASAN
    {SCMP_SYS(prctl), EPERM},
#endif
};

static int add_rules(scmp_filter_ctx filter)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    for (size_t i = 0; rc == 0 && i < sizeof(refused) / sizeof(refused[0]); i++) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(refused[i].error), refused[i].call, 0);
    }
    /* Threads, not processes. With clone3 refused glibc uses clone, whose flags a filter can see.
     */
    if (rc == 0) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    }
    return rc;
}

static int enter_seccomp(struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL) {
        return error_set(err, WEIR_ENOMEM, "seccomp");
    }
    int rc = add_rules(filter);
    if (rc == 0) {
        rc = seccomp_load(filter);
    }
    seccomp_release(filter);
    return rc < 0 ? error_set(err, error_from_errno(-rc), "seccomp: %s", error_name(rc)) : 0;
}

int sandbox_enter(int keep_fd, unsigned long memory_bytes, struct error *err)
{
    if (close_range((unsigned)keep_fd + 1, ~0u, 0) < 0) {
        return error_errno(err, "close_range");
    }
    int rc = set_limits(memory_bytes, err);
    if (rc < 0) {
        return rc;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
        return error_errno(err, "prctl");
    }
    rc = enter_landlock(err);
    return rc < 0 ? rc : enter_seccomp(err);
}
