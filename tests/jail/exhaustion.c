/* Programs that use up what the kernel gives them, and lookups of many names.
 *
 * Usage: exhaustion WHAT COMMAND...  Each of several children takes as much as it can and keeps it. When
 * all of them are refused more, the program writes "holding: COUNT: the last error", runs COMMAND, writes
 * "status: N", and waits for the end of its standard input. It exits with 7.
 *
 * Usage: exhaustion names SUFFIX COUNT  Looks up COUNT names below SUFFIX at the name server of the jail,
 * and writes how many answers of each kind it got.
 *
 * Usage: exhaustion tunnels PORT COUNT AUTHORITY  Opens COUNT tunnels through the HTTP door on PORT, keeps them,
 * and writes how many were opened; then waits as above. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILDREN 4
/* The addresses of 198.18.0.0/15. */
#define SYNTHETIC_FIRST 0xc6120000u
#define SYNTHETIC_COUNT 131072u

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return to;
}

/* Neighbours with different rights do not merge. The pages hold no memory. */
static long maps(void) {
  for (long count = 0;; count++) {
    int rights = count % 2 ? PROT_NONE : PROT_READ;
    if (mmap(NULL, 4096, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) == MAP_FAILED) return count;
  }
}

static long address_space(void) {
  long count = 0;
  for (size_t size = 1ul << 40; size >= 4096; size >>= 1)
    while (mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) count++;
  return count;
}

static long descriptors(void) {
  for (long count = 0;; count++)
    if (open("/dev/null", O_RDONLY) < 0) return count;
}

/* Ports of the loopback address that the kernel chooses. */
static long ports(void) {
  struct sockaddr_in any = loopback(0);
  for (long count = 0;; count++) {
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (s < 0 || bind(s, (void *)&any, sizeof any) < 0) return count;
  }
}

static const struct {
  const char *name;
  long (*take)(void);
} RESOURCES[] = {{"maps", maps}, {"address-space", address_space}, {"descriptors", descriptors}, {"ports", ports}};

static int until_the_end_of_input(void) {
  char byte;
  fflush(stdout);
  while (read(0, &byte, 1) > 0) {
  }
  return 7;
}

static int hold(long (*take)(void), char **command) {
  struct {
    long count;
    int error;
  } taken;
  int results[2], status;
  long count = 0;
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (pipe(results)) return 2;
  for (int at = 0; at < CHILDREN; at++) {
    if (fork()) continue;
    taken.count = take();
    taken.error = errno;
    if (write(results[1], &taken, sizeof taken) != sizeof taken) _exit(2);
    for (;;) pause();
  }
  for (int at = 0; at < CHILDREN; at++) {
    if (read(results[0], &taken, sizeof taken) != sizeof taken) return 2;
    count += taken.count;
  }
  printf("holding: %ld: %s\n", count, strerror(taken.error));
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    execvp(command[0], command);
    _exit(127);
  }
  waitpid(child, &status, 0);
  printf("\nstatus: %d\n", WEXITSTATUS(status));
  return until_the_end_of_input();
}

/* Writes a query of type A and returns its length. */
static size_t query(unsigned char *bytes, unsigned id, const char *name) {
  unsigned char *at = bytes + 12;
  memset(bytes, 0, 12);
  bytes[0] = id >> 8;
  bytes[1] = id;
  bytes[2] = 1;
  bytes[5] = 1;
  while (*name) {
    size_t length = strcspn(name, ".");
    *at++ = length;
    memcpy(at, name, length);
    at += length;
    name += length + (name[length] == '.');
  }
  memcpy(at, "\0\0\1\0\1", 5);
  return at + 5 - bytes;
}

/* Asks until there is an answer to this query. Returns its code, and the address if it has one. */
static int look_up(int s, unsigned id, const char *name, unsigned *address) {
  unsigned char bytes[512];
  size_t length = query(bytes, id, name);
  for (int attempt = 0; attempt < 10; attempt++) {
    unsigned char answer[1024];
    ssize_t read;
    send(s, bytes, length, 0);
    while ((read = recv(s, answer, sizeof answer, 0)) >= 12) {
      if (answer[0] != bytes[0] || answer[1] != bytes[1]) continue;
      *address = 0;
      if (answer[7]) {
        memcpy(address, answer + read - 4, 4);
        *address = ntohl(*address);
      }
      return answer[3] & 15;
    }
  }
  return -1;
}

static int names(const char *suffix, int count) {
  static unsigned char seen[SYNTHETIC_COUNT];
  int addresses = 0, repeated = 0, failed = 0, absent = 0, other = 0;
  unsigned address = 0, first = 0;
  struct sockaddr_in to = loopback(53);
  struct timeval limit = {2, 0};
  char name[256];
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(s, (void *)&to, sizeof to)) return 2;
  for (int at = 0; at <= count; at++) {
    /* The last one asks for the first name again. */
    snprintf(name, sizeof name, "n%d.%s", at % count, suffix);
    int code = look_up(s, at & 0xffff, name, &address);
    if (at == count) {
      printf("addresses %d, repeated %d, failed %d, absent %d, other %d, first %s\n", addresses, repeated, failed,
             absent, other, code == 0 && address == first ? "kept" : "lost");
      return 0;
    }
    if (code == 0 && address - SYNTHETIC_FIRST < SYNTHETIC_COUNT) {
      if (at == 0) first = address;
      addresses++;
      repeated += seen[address - SYNTHETIC_FIRST]++ != 0;
    } else if (code == 2) {
      failed++;
    } else if (code == 3) {
      absent++;
    } else {
      other++;
    }
  }
  return 2;
}

static int tunnels(int port, int count, const char *authority) {
  struct sockaddr_in to = loopback(port);
  struct timeval limit = {10, 0};
  int opened = 0;
  char request[256];
  int length = snprintf(request, sizeof request, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority);
  signal(SIGPIPE, SIG_IGN);
  for (int at = 0; at < count; at++) {
    char answer[1024];
    int s = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (s < 0 || connect(s, (void *)&to, sizeof to) || send(s, request, length, 0) != length) continue;
    ssize_t read = recv(s, answer, sizeof answer, 0);
    opened += read > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0;
  }
  printf("opened %d\n", opened);
  return until_the_end_of_input();
}

int main(int count, char **given) {
  if (count == 4 && !strcmp(given[1], "names")) return names(given[2], atoi(given[3]));
  if (count == 5 && !strcmp(given[1], "tunnels")) return tunnels(atoi(given[2]), atoi(given[3]), given[4]);
  for (size_t at = 0; count > 2 && at < sizeof RESOURCES / sizeof *RESOURCES; at++)
    if (!strcmp(RESOURCES[at].name, given[1])) return hold(RESOURCES[at].take, given + 2);
  fprintf(stderr, "unknown arguments\n");
  return 2;
}
