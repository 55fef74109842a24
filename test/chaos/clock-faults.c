/*
 * Shifts the clocks of one process on request. Loaded with LD_PRELOAD by clock-faults.ts.
 *
 * The file named by KVD_CLOCK_FAULT holds two 64-bit numbers of nanoseconds in the byte order of the
 * machine: what is added to the wall clock and what is added to the monotonic clock. The file is
 * mapped at the start, so a change takes effect at the next call and costs nothing in between. Timers
 * of the kernel know nothing of it: only what the program reads is shifted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static volatile const int64_t *offsets;

__attribute__((constructor)) static void open_control(void) {
  const char *name = getenv("KVD_CLOCK_FAULT");
  if (name == NULL) return;
  int fd = open(name, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void *page = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (page != MAP_FAILED) offsets = page;
}

static void shift(struct timespec *time, int64_t by) {
  int64_t whole = (int64_t)time->tv_sec * SECOND + time->tv_nsec + by;
  time->tv_sec = whole / SECOND;
  time->tv_nsec = whole % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  static int (*real)(clockid_t, struct timespec *);
  if (real == NULL) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int result = real(clock, time);
  if (result != 0 || offsets == NULL) return result;
  int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  int steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE ||
               clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
  if (wall) shift(time, offsets[0]);
  if (steady) shift(time, offsets[1]);
  return 0;
}

int gettimeofday(struct timeval *time, void *zone) {
  static int (*real)(struct timeval *, void *);
  if (real == NULL) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
  int result = real(time, zone);
  if (result != 0 || offsets == NULL) return result;
  int64_t whole = (int64_t)time->tv_sec * SECOND + (int64_t)time->tv_usec * 1000 + offsets[0];
  time->tv_sec = whole / SECOND;
  time->tv_usec = whole % SECOND / 1000;
  return 0;
}

time_t time(time_t *result) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != NULL) *result = now.tv_sec;
  return now.tv_sec;
}
