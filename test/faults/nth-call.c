// Preloaded into a program under test: something happens at the nth call that changes files, counted over all threads.
// (strace counts in each thread.)
//
//   NTH_AT      which call; 0: none
//   NTH_ACTION  kill: SIGKILL before it. torn: half of a write is done, then SIGKILL. EIO, ENOSPC: it fails
//   NTH_NAME    only calls on files whose name contains this, and syncs of directories named so
//   NTH_SYNCS   set: only fsync and fdatasync count
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls;

static int is_counted(const char* path) {
  const char* name = getenv("NTH_NAME");
  const char* base = strrchr(path, '/');
  return name && strstr(base ? base + 1 : path, name) != NULL;
}

static int is_counted_fd(int fd) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return is_counted(path);
}

static const char* action(void) {
  const char* named = getenv("NTH_ACTION");
  return named ? named : "kill";
}

// 0: go on. Else the errno with which the call fails. Does not return where the process is killed.
static int happens(int counted, int syncs, int (*tear)(void*), void* context) {
  if (!counted || (getenv("NTH_SYNCS") && !syncs)) return 0;
  const char* at = getenv("NTH_AT");
  if (!at || atomic_fetch_add(&calls, 1) + 1 != atoi(at)) return 0;
  static const char said[] = "nth call\n";
  if (write(2, said, sizeof said - 1) < 0) abort();
  if (strcmp(action(), "EIO") == 0) return EIO;
  if (strcmp(action(), "ENOSPC") == 0) return syncs ? EIO : ENOSPC;
  if (strcmp(action(), "torn") == 0 && tear) tear(context);
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

struct half {
  ssize_t (*write)(int, const void*, size_t, off64_t);
  int fd;
  const void* bytes;
  size_t length;
  off64_t offset;
};

static int tear(void* context) {
  const struct half* h = context;
  // A number of blocks, so that O_DIRECT takes it.
  const size_t length = h->length / 2 / 4096 * 4096;
  return length > 0 && h->write(h->fd, h->bytes, length, h->offset) < 0;
}

static ssize_t write_at(ssize_t (*real)(int, const void*, size_t, off64_t), int fd, const void* bytes, size_t length,
                        off64_t offset) {
  struct half half = {real, fd, bytes, length, offset};
  const int failed = happens(is_counted_fd(fd), 0, tear, &half);
  if (failed) return errno = failed, -1;
  return real(fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void* bytes, size_t length, off64_t offset) {
  REAL(ssize_t, "pwrite64", int, const void*, size_t, off64_t);
  return write_at(real, fd, bytes, length, offset);
}
ssize_t pwrite(int fd, const void* bytes, size_t length, off_t offset) {
  REAL(ssize_t, "pwrite64", int, const void*, size_t, off64_t);
  return write_at(real, fd, bytes, length, offset);
}
int fsync(int fd) {
  REAL(int, "fsync", int);
  const int failed = happens(is_counted_fd(fd), 1, NULL, NULL);
  return failed ? (errno = failed, -1) : real(fd);
}
int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  const int failed = happens(is_counted_fd(fd), 1, NULL, NULL);
  return failed ? (errno = failed, -1) : real(fd);
}
int ftruncate64(int fd, off64_t length) {
  REAL(int, "ftruncate64", int, off64_t);
  const int failed = happens(is_counted_fd(fd), 0, NULL, NULL);
  return failed ? (errno = failed, -1) : real(fd, length);
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  REAL(int, "fallocate64", int, int, off64_t, off64_t);
  const int failed = happens(is_counted_fd(fd), 0, NULL, NULL);
  return failed ? (errno = failed, -1) : real(fd, mode, offset, length);
}
int rename(const char* from, const char* to) {
  REAL(int, "rename", const char*, const char*);
  const int failed = happens(is_counted(to), 0, NULL, NULL);
  return failed ? (errno = failed, -1) : real(from, to);
}
int unlink(const char* path) {
  REAL(int, "unlink", const char*);
  const int failed = happens(is_counted(path), 0, NULL, NULL);
  return failed ? (errno = failed, -1) : real(path);
}
