/* A disk that fails when it is told to, for a process that is started with this in LD_PRELOAD: the control file names the call, the error
 * number and the paths (by their beginning) that it is to fail for, as "CALL ERRNO PATH". Without the file, and for anything else, the real
 * calls are made. CALL: write (write, pwrite, ftruncate, fallocate, and open for writing), or sync (fsync, fdatasync). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static __thread int asking;

/* 0: the real call; otherwise the error number. */
static int fault(const char *call, const char *path) {
  if (asking) return 0;
  asking = 1;
  int number = 0, found = 0;
  char wanted[16] = "", prefix[4096] = "";
  FILE *control = fopen(CONTROL_FILE, "r");
  if (control != NULL) {
    if (fscanf(control, "%15s %d %4095s", wanted, &number, prefix) == 3)
      found = strcmp(wanted, call) == 0 && strncmp(path, prefix, strlen(prefix)) == 0;
    fclose(control);
  }
  asking = 0;
  return found ? number : 0;
}

static int fault_of_fd(const char *call, int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return fault(call, path);
}

#define REAL(type, name, ...)                                                                                          \
  static type (*real)(__VA_ARGS__);                                                                                    \
  if (real == NULL) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)
#define FAIL(call, fd)                                                                                                 \
  int number = fault_of_fd(call, fd);                                                                                  \
  if (number != 0) {                                                                                                   \
    errno = number;                                                                                                    \
    return -1;                                                                                                         \
  }

ssize_t write(int fd, const void *bytes, size_t length) {
  REAL(ssize_t, write, int, const void *, size_t);
  FAIL("write", fd)
  return real(fd, bytes, length);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int);
  FAIL("write", fd)
  return real(fd, parts, count);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
  REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
  FAIL("write", fd)
  return real(fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
  REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
  FAIL("write", fd)
  return real(fd, bytes, length, at);
}
int ftruncate(int fd, off_t length) {
  REAL(int, ftruncate, int, off_t);
  FAIL("write", fd)
  return real(fd, length);
}
int ftruncate64(int fd, off64_t length) {
  REAL(int, ftruncate64, int, off64_t);
  FAIL("write", fd)
  return real(fd, length);
}
int fsync(int fd) {
  REAL(int, fsync, int);
  FAIL("sync", fd)
  return real(fd);
}
int fdatasync(int fd) {
  REAL(int, fdatasync, int);
  FAIL("sync", fd)
  return real(fd);
}

static int open_fault(const char *path, int flags) {
  return (flags & (O_WRONLY | O_RDWR | O_CREAT)) == 0 ? 0 : fault("write", path);
}
#define OPEN(name)                                                                                                     \
  int name(const char *path, int flags, ...) {                                                                        \
    REAL(int, name, const char *, int, ...);                                                                           \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;                                     \
    va_end(rest);                                                                                                      \
    int number = open_fault(path, flags);                                                                              \
    if (number != 0) {                                                                                                 \
      errno = number;                                                                                                  \
      return -1;                                                                                                       \
    }                                                                                                                  \
    return real(path, flags, mode);                                                                                    \
  }
OPEN(open)
OPEN(open64)
