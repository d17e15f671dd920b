/* Stands between a process and the C library for every call by which files change, and makes one of them go wrong.
 *
 * For tests; loaded with LD_PRELOAD. Calls on files below one folder are counted from 1. At the chosen one, `kill` ends
 * the process before the call; `torn` does the call, or half of it if it is a write, and then ends the process; `error`
 * lets this call alone fail; `full` writes half, and from then on everything that needs room fails, in every process
 * that is told the same gate, until the gate (a file) is gone; `readonly` lets everything that changes a file fail.
 *
 * In the environment: FAULTS_FOLDER, FAULTS_KIND, FAULTS_AT, FAULTS_GATE. Within a process: faults_arm, faults_count.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { NONE, KILL, TORN, ERROR, FULL, READONLY };
enum call { OPEN, CREATE, WRITE, SYNC, RENAME, UNLINK, TRUNCATE, LINK, MKDIR };

static char folder[PATH_MAX], gate[PATH_MAX];
static enum kind kind = NONE;
static long at = 0, count = 0;

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))
typedef int (*open_type)(const char *, int, ...);

static enum kind kind_named(const char *name) {
    const char *names[] = {"none", "kill", "torn", "error", "full", "readonly"};
    for (int i = 0; i < 6; i++)
        if (name && strcmp(name, names[i]) == 0) return (enum kind)i;
    return NONE;
}

void faults_arm(const char *where, const char *what, long number) {
    snprintf(folder, sizeof folder, "%s", where);
    gate[0] = 0;
    at = number;
    count = 0;
    kind = kind_named(what);
}

long faults_count(void) { return count; }

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("FAULTS_FOLDER"), *number = getenv("FAULTS_AT"), *door = getenv("FAULTS_GATE");
    if (!where) return;
    faults_arm(where, getenv("FAULTS_KIND"), number ? atol(number) : 0);
    if (door) snprintf(gate, sizeof gate, "%s", door);
}

static int inside(const char *path) {
    char whole[PATH_MAX];
    if (kind == NONE || !path || !folder[0]) return 0;
    if (path[0] != '/') {
        char here[PATH_MAX / 2];
        if (!getcwd(here, sizeof here)) return 0;
        snprintf(whole, sizeof whole, "%s/%.2000s", here, path);
        path = whole;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int inside_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (kind == NONE) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static int gate_is_shut(void) { return gate[0] && faccessat(AT_FDCWD, gate, F_OK, 0) == 0; }

static void shut_gate(void) {
    if (gate[0]) close(REAL("open", open_type)(gate, O_CREAT | O_WRONLY, 0600));
}

static int needs_room(enum call call) {
    return call == CREATE || call == WRITE || call == TRUNCATE || call == LINK || call == MKDIR;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    pause();
}

/* 0: go on; 1: do it (half of it, if it is a write) and die; 2: do half of it; -1: fail, errno is set. */
static int judge(enum call call) {
    if (kind == READONLY) {
        errno = EROFS;
        return call == SYNC ? 0 : -1;
    }
    if (kind == FULL && (gate_is_shut() || (!gate[0] && at && count >= at))) {
        errno = ENOSPC;
        return needs_room(call) ? -1 : 0;
    }
    if (__atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST) != at) return 0;
    switch (kind) {
    case KILL: die(); return 0;
    case TORN: return 1;
    case ERROR: errno = needs_room(call) ? ENOSPC : EIO; return -1;
    case FULL: shut_gate(); errno = ENOSPC; return call == WRITE ? 2 : needs_room(call) ? -1 : 0;
    default: return 0;
    }
}

#define AROUND(type, call, is_inside, done)          \
    int verdict = (is_inside) ? judge(call) : 0;      \
    if (verdict < 0) return -1;                       \
    type result = (done);                             \
    if (verdict == 1) die();                          \
    return result;

#define WROTE(is_inside, done_n)                      \
    int verdict = (is_inside) ? judge(WRITE) : 0;     \
    if (verdict < 0) return -1;                       \
    if (verdict) n = n > 1 ? n / 2 : n;               \
    ssize_t result = (done_n);                        \
    if (verdict == 1) die();                          \
    return result;

ssize_t write(int fd, const void *data, size_t n) {
    typedef ssize_t (*type)(int, const void *, size_t);
    WROTE(inside_fd(fd), REAL("write", type)(fd, data, n))
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset) {
    typedef ssize_t (*type)(int, const void *, size_t, off_t);
    WROTE(inside_fd(fd), REAL("pwrite", type)(fd, data, n, offset))
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset) {
    typedef ssize_t (*type)(int, const void *, size_t, off64_t);
    WROTE(inside_fd(fd), REAL("pwrite64", type)(fd, data, n, offset))
}

int fsync(int fd) {
    typedef int (*type)(int);
    AROUND(int, SYNC, inside_fd(fd), REAL("fsync", type)(fd))
}

int fdatasync(int fd) {
    typedef int (*type)(int);
    AROUND(int, SYNC, inside_fd(fd), REAL("fdatasync", type)(fd))
}

int rename(const char *from, const char *to) {
    typedef int (*type)(const char *, const char *);
    AROUND(int, RENAME, inside(to), REAL("rename", type)(from, to))
}

int unlink(const char *path) {
    typedef int (*type)(const char *);
    AROUND(int, UNLINK, inside(path), REAL("unlink", type)(path))
}

int ftruncate(int fd, off_t size) {
    typedef int (*type)(int, off_t);
    AROUND(int, TRUNCATE, inside_fd(fd), REAL("ftruncate", type)(fd, size))
}

int ftruncate64(int fd, off64_t size) {
    typedef int (*type)(int, off64_t);
    AROUND(int, TRUNCATE, inside_fd(fd), REAL("ftruncate64", type)(fd, size))
}

int link(const char *from, const char *to) {
    typedef int (*type)(const char *, const char *);
    AROUND(int, LINK, inside(to), REAL("link", type)(from, to))
}

int mkdir(const char *path, mode_t mode) {
    typedef int (*type)(const char *, mode_t);
    AROUND(int, MKDIR, inside(path), REAL("mkdir", type)(path, mode))
}

static int opened(const char *name, const char *path, int flags, mode_t mode) {
    int changes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY;
    int creates = (flags & O_CREAT) && faccessat(AT_FDCWD, path, F_OK, 0) != 0;
    AROUND(int, creates ? CREATE : OPEN, changes && inside(path), REAL(name, open_type)(path, flags, mode))
}

#define MODE                                   \
    mode_t mode = 0;                           \
    if (flags & (O_CREAT | O_TMPFILE)) {       \
        va_list rest;                          \
        va_start(rest, flags);                 \
        mode = (mode_t)va_arg(rest, int);      \
        va_end(rest);                          \
    }

int open(const char *path, int flags, ...) { MODE return opened("open", path, flags, mode); }

int open64(const char *path, int flags, ...) { MODE return opened("open64", path, flags, mode); }
