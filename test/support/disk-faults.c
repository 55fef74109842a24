/*
 * Makes the disk of one process fail on request. Loaded with LD_PRELOAD by disk-faults.ts.
 *
 * The file named by KVD_DISK_FAULT says what fails; it is read at every call, so a test can arm and
 * disarm a running process. It holds one line: OPERATION WHAT PATH-PART [COUNT]
 *
 *   fsync EIO wal/         fsync and fdatasync of a file whose path has "wal/" in it fail
 *   fsync EIO wal/ 1       the first such call fails, the next ones succeed
 *   write ENOSPC wal/      writes fail
 *   write TORN wal/        a write puts half of its bytes on the disk and the process dies
 *   fsync SLEEP:3000 wal/  takes 3 s longer, or until the fault is lifted
 *   read EIO wal/          reads fail
 *   statfs FREE:1000 data  the disk under a path with "data" in it says that it has 1000 bytes left
 *
 * Without the file, or with an empty one, nothing fails.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct fault {
  char operation[16];
  char what[32];
  char path[256];
  int count;
};

static atomic_int fired;

static int read_fault(struct fault *fault) {
  const char *name = getenv("KVD_DISK_FAULT");
  if (name == NULL) return 0;
  int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  char line[320];
  long size = syscall(SYS_read, fd, line, sizeof line - 1);
  syscall(SYS_close, fd);
  if (size <= 0) return 0;
  line[size] = 0;
  fault->count = 0;
  int fields = sscanf(line, "%15s %31s %255s %d", fault->operation, fault->what, fault->path,
                      &fault->count);
  return fields >= 3;
}

/* Sleeps in slices, so that a call that hangs goes on when the fault is lifted. */
static void sleep_while_armed(const struct fault *fault, long ms) {
  while (ms > 0) {
    long slice = ms < 20 ? ms : 20;
    struct timespec time = {0, slice * 1000000};
    nanosleep(&time, NULL);
    ms -= slice;
    struct fault now;
    if (!read_fault(&now) || strcmp(now.what, fault->what) != 0) return;
  }
}

/* Whether this call is to fail; sets errno. Sleeps here if that is the fault. */
static int fails(const char *operation, int fd, int *torn) {
  int saved = errno;
  struct fault fault;
  if (torn != NULL) *torn = 0;
  if (!read_fault(&fault) || strcmp(fault.operation, operation) != 0) {
    errno = saved;
    return 0;
  }
  char link[64];
  char path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (size <= 0) return 0;
  path[size] = 0;
  if (strstr(path, fault.path) == NULL) return 0;
  if (fault.count > 0 && atomic_fetch_add(&fired, 1) >= fault.count) return 0;
  if (strncmp(fault.what, "SLEEP:", 6) == 0) {
    sleep_while_armed(&fault, atol(fault.what + 6));
    errno = saved;
    return 0;
  }
  if (strcmp(fault.what, "TORN") == 0 && torn != NULL) {
    *torn = 1;
    return 0;
  }
  errno = strcmp(fault.what, "ENOSPC") == 0 ? ENOSPC : strcmp(fault.what, "EROFS") == 0 ? EROFS : EIO;
  return 1;
}

#define REAL(result, name, ...) \
  static result (*real)(__VA_ARGS__); \
  if (real == NULL) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

int fsync(int fd) {
  REAL(int, "fsync", int);
  return fails("fsync", fd, NULL) ? -1 : real(fd);
}

int fdatasync(int fd) {
  REAL(int, "fdatasync", int);
  return fails("fsync", fd, NULL) ? -1 : real(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  REAL(ssize_t, "write", int, const void *, size_t);
  int torn;
  if (fails("write", fd, &torn)) return -1;
  if (torn) {
    real(fd, bytes, count / 2);
    _exit(137);
  }
  return real(fd, bytes, count);
}

static ssize_t faulty_pwrite(ssize_t (*real)(int, const void *, size_t, off_t), int fd,
                             const void *bytes, size_t count, off_t offset) {
  int torn;
  if (fails("write", fd, &torn)) return -1;
  if (torn) {
    real(fd, bytes, count / 2, offset);
    _exit(137);
  }
  return real(fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
  REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
  return faulty_pwrite(real, fd, bytes, count, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
  return faulty_pwrite(real, fd, bytes, count, offset);
}

/* Of a vector the first half of the buffers, at least half of the first one, reaches the disk. */
static void tear_vector(int fd, const struct iovec *buffers, int count, off_t offset) {
  for (int at = 0; at <= count / 2 && at < count; at += 1) {
    size_t size = at < count / 2 ? buffers[at].iov_len : buffers[at].iov_len / 2;
    if (offset < 0) {
      syscall(SYS_write, fd, buffers[at].iov_base, size);
    } else {
      syscall(SYS_pwrite64, fd, buffers[at].iov_base, size, offset);
      offset += (off_t)size;
    }
  }
  _exit(137);
}

ssize_t writev(int fd, const struct iovec *buffers, int count) {
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  int torn;
  if (fails("write", fd, &torn)) return -1;
  if (torn) tear_vector(fd, buffers, count, -1);
  return real(fd, buffers, count);
}

ssize_t pwritev(int fd, const struct iovec *buffers, int count, off_t offset) {
  REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
  int torn;
  if (fails("write", fd, &torn)) return -1;
  if (torn) tear_vector(fd, buffers, count, offset);
  return real(fd, buffers, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *buffers, int count, off64_t offset) {
  REAL(ssize_t, "pwritev64", int, const struct iovec *, int, off_t);
  int torn;
  if (fails("write", fd, &torn)) return -1;
  if (torn) tear_vector(fd, buffers, count, offset);
  return real(fd, buffers, count, offset);
}

ssize_t read(int fd, void *bytes, size_t count) {
  REAL(ssize_t, "read", int, void *, size_t);
  return fails("read", fd, NULL) ? -1 : real(fd, bytes, count);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
  REAL(ssize_t, "pread64", int, void *, size_t, off_t);
  return fails("read", fd, NULL) ? -1 : real(fd, bytes, count, offset);
}

ssize_t pread(int fd, void *bytes, size_t count, off_t offset) {
  REAL(ssize_t, "pread", int, void *, size_t, off_t);
  return fails("read", fd, NULL) ? -1 : real(fd, bytes, count, offset);
}

/* Free space as the fault has it; only the blocks that everybody may use. */
int statfs64(const char *path, struct statfs64 *result) {
  static int (*real)(const char *, struct statfs64 *);
  if (real == NULL) real = dlsym(RTLD_NEXT, "statfs64");
  int status = real(path, result);
  struct fault fault;
  if (status != 0 || !read_fault(&fault)) return status;
  if (strcmp(fault.operation, "statfs") != 0 || strstr(path, fault.path) == NULL) return status;
  long long bytes = 0;
  if (sscanf(fault.what, "FREE:%lld", &bytes) == 1 && result->f_bsize > 0)
    result->f_bavail = bytes / result->f_bsize;
  return status;
}

/* On 64-bit systems both have the same structure. */
int statfs(const char *path, struct statfs *result) {
  return statfs64(path, (struct statfs64 *)result);
}
