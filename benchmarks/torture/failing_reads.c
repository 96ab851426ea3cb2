/* Reads that fail now and then, for a process that preloads this (LD_PRELOAD).

FAILING_PATH: a part of the paths that are concerned. FAILING_EVERY: which read of such a
file fails, EIO, as on a network disk whose server is away: every n-th of the process.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long reads;

static int fails(int descriptor) {
  const char *part = getenv("FAILING_PATH");
  const char *every = getenv("FAILING_EVERY");
  if (!part || !every) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (!strstr(path, part)) return 0;
  return atomic_fetch_add(&reads, 1) % atol(every) == atol(every) - 1;
}

#define FAILING(name, offset_type)                                         \
  ssize_t name(int descriptor, void *to, size_t count, offset_type from) { \
    static ssize_t (*real)(int, void *, size_t, offset_type);              \
    if (!real) real = dlsym(RTLD_NEXT, #name);                             \
    if (fails(descriptor)) {                                               \
      errno = EIO;                                                         \
      return -1;                                                           \
    }                                                                      \
    return real(descriptor, to, count, from);                              \
  }

FAILING(pread, off_t)
FAILING(pread64, off64_t)
