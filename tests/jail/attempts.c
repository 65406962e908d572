/* Attempts to get out of a jail. Usage: attempts NAME [ARGUMENT...]
 *
 * Exits with 0 and writes "through: NAME" when the attempt got through, else exits with 1 and writes
 * "refused: NAME: the error". Each attempt gets through outside a jail, given the rights that it needs, so a
 * test can run it there too. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Numbers that are the same on all architectures, for old headers. */
#define CALL_PIDFD_OPEN 434
#define CALL_CLONE3 435
#define CALL_PIDFD_GETFD 438
#define CALL_IO_URING_SETUP 425
#define CALL_NEWER 499

static char **arguments;

static const char *argument(int at) {
  if (!arguments[at]) {
    fprintf(stderr, "an argument is missing\n");
    exit(2);
  }
  return arguments[at];
}

static int number(int at) { return atoi(argument(at)); }

/* Reads a greeting. Only the test's own listener, outside the jail, sends "outside". */
static int is_outside(int socket) {
  char bytes[64] = {0};
  struct timeval limit = {5, 0};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (recv(socket, bytes, sizeof bytes - 1, 0) <= 0) return 0;
  errno = ENOLINK;
  return strncmp(bytes, "outside", 7) == 0;
}

static socklen_t address(struct sockaddr_storage *storage, const char *host, int port) {
  struct sockaddr_in *v4 = (void *)storage;
  struct sockaddr_in6 *v6 = (void *)storage;
  memset(storage, 0, sizeof *storage);
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return sizeof *v4;
  }
  if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1) exit(2);
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  return sizeof *v6;
}

static int tcp(void) {
  struct sockaddr_storage to;
  socklen_t length = address(&to, argument(0), number(1));
  int s = socket(to.ss_family, SOCK_STREAM, 0);
  return s >= 0 && connect(s, (void *)&to, length) == 0 && is_outside(s);
}

static int udp(void) {
  struct sockaddr_storage to;
  socklen_t length = address(&to, argument(0), number(1));
  int s = socket(to.ss_family, SOCK_DGRAM, 0);
  if (s < 0 || connect(s, (void *)&to, length) < 0 || send(s, "x", 1, 0) < 0) return 0;
  return is_outside(s);
}

/* The test looks whether its receiver got it. */
static int multicast(void) {
  struct sockaddr_storage to;
  socklen_t length = address(&to, argument(0), number(1));
  struct in_addr from = {htonl(INADDR_LOOPBACK)};
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &from, sizeof from);
  return sendto(s, "outside", 7, 0, (void *)&to, length) == 7;
}

/* Another protocol of the internet's families, with a connection or without one. */
static int other_protocol(void) {
  struct sockaddr_storage to;
  socklen_t length = address(&to, argument(2), number(3));
  int s = socket(to.ss_family, number(0), number(1));
  if (s < 0 || connect(s, (void *)&to, length) < 0 || send(s, "x", 1, 0) < 0) return 0;
  return is_outside(s);
}

/* The first bytes travel with the first packet. */
static int fast_open(void) {
  struct sockaddr_storage to;
  socklen_t length = address(&to, argument(0), number(1));
  int s = socket(to.ss_family, SOCK_STREAM, 0);
  return s >= 0 && sendto(s, "x", 1, MSG_FASTOPEN, (void *)&to, length) == 1 && is_outside(s);
}

/* The test looks whether its receiver got it. */
static int broadcast(void) {
  struct sockaddr_storage to;
  socklen_t length = address(&to, argument(0), number(1));
  int s = socket(AF_INET, SOCK_DGRAM, 0), yes = 1;
  setsockopt(s, SOL_SOCKET, SO_BROADCAST, &yes, sizeof yes);
  return sendto(s, "outside", 7, 0, (void *)&to, length) == 7;
}

/* An echo request by a socket that needs no rights where the machine's administrator permits it. */
static int ping(void) { return socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) >= 0; }
static int ping6(void) { return socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6) >= 0; }

static int raw(void) { return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0; }
static int raw6(void) { return socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6) >= 0; }

/* A name that begins with '@' is abstract. */
static socklen_t unix_address(struct sockaddr_un *to, const char *name) {
  memset(to, 0, sizeof *to);
  to->sun_family = AF_UNIX;
  strncpy(to->sun_path, name, sizeof to->sun_path - 1);
  if (name[0] == '@') to->sun_path[0] = 0;
  return offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] != '@');
}

static int unix_stream(void) {
  struct sockaddr_un to;
  socklen_t length = unix_address(&to, argument(0));
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  return s >= 0 && connect(s, (void *)&to, length) == 0 && is_outside(s);
}

/* A datagram socket of a pair may send to any path. */
static int unix_pair(int kind) {
  struct sockaddr_un to;
  socklen_t length = unix_address(&to, argument(0));
  int pair[2];
  return socketpair(AF_UNIX, kind, 0, pair) == 0 && sendto(pair[0], "outside", 7, 0, (void *)&to, length) == 7;
}

static int unix_datagram_pair(void) { return unix_pair(SOCK_DGRAM); }
static int unix_raw_pair(void) { return unix_pair(SOCK_RAW); }
static int unix_stream_pair(void) { return unix_pair(SOCK_STREAM); }
static int unix_packet_pair(void) { return unix_pair(SOCK_SEQPACKET); }

/* A pair of streams is connected to its other end for good. */
static int unix_reconnect(void) {
  struct sockaddr_un to;
  socklen_t length = unix_address(&to, argument(0));
  struct sockaddr none = {.sa_family = AF_UNSPEC};
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 0;
  close(pair[1]);
  connect(pair[0], &none, sizeof none);
  return connect(pair[0], (void *)&to, length) == 0 && is_outside(pair[0]);
}

/* A socket of a family, type and protocol. */
static int family(void) { return socket(number(0), number(1), number(2)) >= 0; }
/* The upper half of the argument, which the kernel ignores. */
static int wide_family(void) {
  return syscall(SYS_socket, (1UL << 32) | (unsigned)number(0), (long)number(1), (long)number(2)) >= 0;
}

static int io_uring(void) {
  char parameters[256] = {0};
  return syscall(CALL_IO_URING_SETUP, 1, parameters) >= 0;
}

static int bpf(void) {
  /* BPF_MAP_CREATE of an array: type 2, key 4, value 4, one entry. */
  unsigned attributes[32] = {2, 4, 4, 1};
  return syscall(SYS_bpf, 0, attributes, sizeof attributes) >= 0;
}

static int keyctl(void) { return syscall(SYS_keyctl, 0, -3, 1) >= 0; }
static int add_key(void) { return syscall(SYS_add_key, "user", "jail", "x", 1, -2) >= 0; }
static int request_key(void) {
  /* Without a helper program the kernel has no such key. */
  return syscall(SYS_request_key, "user", "no-such-key", NULL, 0) >= 0 || errno == ENOKEY;
}
static int userfaultfd(void) { return syscall(SYS_userfaultfd, 1) >= 0; }

static int unshare_flags(void) { return unshare((int)strtoul(argument(0), NULL, 16)) == 0; }

static int clone_flags(void) {
  long child = syscall(SYS_clone, strtoul(argument(0), NULL, 16) | SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(0);
  if (child > 0) waitpid(child, NULL, 0);
  return child > 0;
}

static int clone3_flags(void) {
  unsigned long long parameters[11] = {strtoul(argument(0), NULL, 16), 0, 0, 0, SIGCHLD};
  long child = syscall(CALL_CLONE3, parameters, sizeof parameters);
  if (child == 0) _exit(0);
  if (child > 0) waitpid(child, NULL, 0);
  return child > 0;
}

/* A call by its number, with numbers as arguments. */
static int call_number(void) {
  long values[6] = {0};
  for (int at = 0; at < 6 && arguments[at + 1]; at++) values[at] = strtol(arguments[at + 1], NULL, 0);
  return syscall(number(0), values[0], values[1], values[2], values[3], values[4], values[5]) >= 0;
}

static int set_namespace(void) {
  int ns = open(argument(0), O_RDONLY);
  return ns >= 0 && setns(ns, 0) == 0;
}

static int newer_call(void) {
  syscall(CALL_NEWER, -1, -1, -1, -1);
  /* A filter that lets unknown calls through leaves the answer to the kernel: the same error. So this shows
     only that the call does nothing. */
  return errno != ENOSYS;
}

#ifdef __x86_64__
/* A call of 32 bits: socket(AF_UNIX, SOCK_STREAM) as number 359, or getpid as number 20. */
static int call32(void) {
  int result;
  __asm__ volatile("int $0x80" : "=a"(result) : "a"(number(0)), "b"(number(1)), "c"(number(2)), "d"(0) : "memory");
  if (result < 0) errno = -result;
  return result >= 0;
}
static int call_x32(void) {
  return syscall(0x40000000 | number(0), number(1), number(2), 0) >= 0;
}
#endif

static int ptrace_process(void) {
  return ptrace(PTRACE_SEIZE, number(0), NULL, NULL) == 0;
}
static int read_process(void) {
  char byte;
  struct iovec own = {&byte, 1}, theirs = {(void *)strtoul(argument(1), NULL, 16), 1};
  return syscall(SYS_process_vm_readv, number(0), &own, 1, &theirs, 1, 0) == 1;
}
static int signal_process(void) { return kill(number(0), 0) == 0; }
static int open_file(void) { return open(argument(0), O_RDONLY) >= 0; }
static int write_file(void) { return open(argument(0), O_WRONLY) >= 0; }
static int take_descriptor(void) {
  int process = syscall(CALL_PIDFD_OPEN, number(0), 0);
  if (process < 0) return 0;
  for (int at = 0; at < 32; at++)
    if (syscall(CALL_PIDFD_GETFD, process, at, 0) >= 0) return 1;
  return 0;
}
/* The parent is process 1 of the jail. */
static int kill_init(void) {
  pid_t init = getppid();
  for (int signal = 1; signal < 65; signal++) kill(init, signal);
  errno = 0;
  kill(init, 0);
  int is_gone = errno == ESRCH;
  errno = EALREADY;
  return is_gone;
}
/* Process groups are shared with programs outside. */
static int signal_group(void) {
  signal(SIGUSR2, SIG_IGN);
  return kill(0, SIGUSR2) == 0;
}

static int do_mount(void) { return mount("none", "/tmp", "tmpfs", 0, NULL) == 0; }
static int do_umount(void) { return umount2(argument(0), MNT_DETACH) == 0; }
static int do_chroot(void) { return chroot("/") == 0; }

/* Netlink: 16 is RTM_NEWLINK. Makes an interface of a kind, or takes the loopback interface down. */
static int netlink(const void *content, unsigned short kind, int flags, size_t length) {
  char bytes[512] = {0};
  struct nlmsghdr *head = (void *)bytes;
  int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (s < 0) return 0;
  head->nlmsg_len = NLMSG_LENGTH(length);
  head->nlmsg_type = kind;
  head->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
  memcpy(NLMSG_DATA(head), content, length);
  if (send(s, bytes, head->nlmsg_len, 0) < 0 || recv(s, bytes, sizeof bytes, 0) < 0) return 0;
  errno = -((struct nlmsgerr *)NLMSG_DATA(head))->error;
  return errno == 0;
}
static int new_interface(void) {
  struct {
    struct ifinfomsg link;
    struct rtattr info;
    struct rtattr kind;
    char name[8];
  } content = {0};
  content.info.rta_type = IFLA_LINKINFO;
  content.info.rta_len = sizeof content.info + sizeof content.kind + 6;
  content.kind.rta_type = IFLA_INFO_KIND;
  content.kind.rta_len = sizeof content.kind + 6;
  strcpy(content.name, "dummy");
  return netlink(&content, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof content);
}
static int new_address(void) {
  struct {
    struct ifaddrmsg message;
    struct rtattr attribute;
    unsigned char address[4];
  } content = {.message = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 1},
               .attribute = {.rta_len = 8, .rta_type = IFA_LOCAL},
               .address = {127, 9, 9, 9}};
  return netlink(&content, RTM_NEWADDR, NLM_F_CREATE, sizeof content);
}

/* A connection to the groups of netlink. */
static int netlink_groups(void) {
  struct sockaddr_nl to = {.nl_family = AF_NETLINK};
  int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (connect(s, (void *)&to, sizeof to)) return 0;
  to.nl_groups = 1;
  return connect(s, (void *)&to, sizeof to) == 0;
}

/* The descriptor is not checked before the request is refused. */
static int terminal_input(void) {
  char byte = 'x';
  ioctl(-1, TIOCSTI, &byte);
  return errno == EBADF;
}
static int console_paste(void) {
  char bytes[2] = {3, 0};
  ioctl(-1, 0x541C, bytes);
  return errno == EBADF;
}
static int wide_terminal_input(void) {
  char byte = 'x';
  syscall(SYS_ioctl, -1L, (1UL << 32) | TIOCSTI, &byte);
  return errno == EBADF;
}

static int inherited(void) {
  for (int at = 3; at < 1024; at++)
    if (fcntl(at, F_GETFD) >= 0) return 1;
  return 0;
}

/* Leaves a process of a session of its own, which holds standard output. */
static int leave_child(void) {
  if (fork() == 0) {
    setsid();
    if (fork() == 0) {
      for (int signal = 1; signal < 65; signal++) sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
      for (;;) pause();
    }
    _exit(0);
  }
  return 1;
}

static int exhaust_descriptors(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  for (;;)
    if (open("/dev/null", O_RDONLY) < 0) return errno == EMFILE;
}

/* Connections that are reset as soon as they exist. */
static int many_connections(void) {
  struct sockaddr_storage to;
  socklen_t length = address(&to, argument(0), number(1));
  for (int at = 0; at < 3000; at++) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct linger reset = {1, 0};
    setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(s, (void *)&to, length) < 0) return 0;
    close(s);
  }
  return 1;
}

static int starts_thread(void) {
  /* What a libc falls back to when clone3 is absent. */
  pid_t child = fork();
  if (child == 0) _exit(7);
  int status = 0;
  return waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7;
}

/* Counts a signal, each time it arrives, until SIGTERM. */
static int count_signals(void) {
  sigset_t awaited;
  int signal, count = 0;
  sigemptyset(&awaited);
  sigaddset(&awaited, SIGUSR2);
  sigaddset(&awaited, SIGTERM);
  sigprocmask(SIG_BLOCK, &awaited, NULL);
  puts("ready");
  fflush(stdout);
  while (sigwait(&awaited, &signal) == 0 && signal == SIGUSR2) {
    printf("got %d\n", ++count);
    fflush(stdout);
  }
  return 1;
}

/* Sets the limit of descriptors of a process to what it is. */
static int limit_process(void) {
  struct rlimit limit;
  if (prlimit(number(0), RLIMIT_NOFILE, NULL, &limit)) return 0;
  return prlimit(number(0), RLIMIT_NOFILE, &limit, NULL) == 0;
}

static const struct {
  const char *name;
  int (*attempt)(void);
} ATTEMPTS[] = {
    {"tcp", tcp},
    {"udp", udp},
    {"multicast", multicast},
    {"other-protocol", other_protocol},
    {"fast-open", fast_open},
    {"broadcast", broadcast},
    {"ping", ping},
    {"ping6", ping6},
    {"raw", raw},
    {"raw6", raw6},
    {"unix-stream", unix_stream},
    {"unix-datagram-pair", unix_datagram_pair},
    {"unix-raw-pair", unix_raw_pair},
    {"unix-stream-pair", unix_stream_pair},
    {"unix-packet-pair", unix_packet_pair},
    {"unix-reconnect", unix_reconnect},
    {"family", family},
    {"wide-family", wide_family},
    {"io-uring", io_uring},
    {"bpf", bpf},
    {"keyctl", keyctl},
    {"add-key", add_key},
    {"request-key", request_key},
    {"userfaultfd", userfaultfd},
    {"unshare", unshare_flags},
    {"clone", clone_flags},
    {"clone3", clone3_flags},
    {"call", call_number},
    {"setns", set_namespace},
    {"newer-call", newer_call},
#ifdef __x86_64__
    {"call32", call32},
    {"call-x32", call_x32},
#endif
    {"ptrace", ptrace_process},
    {"read-process", read_process},
    {"signal", signal_process},
    {"limit", limit_process},
    {"open", open_file},
    {"write", write_file},
    {"take-descriptor", take_descriptor},
    {"kill-init", kill_init},
    {"signal-group", signal_group},
    {"mount", do_mount},
    {"umount", do_umount},
    {"chroot", do_chroot},
    {"new-interface", new_interface},
    {"new-address", new_address},
    {"netlink-groups", netlink_groups},
    {"terminal-input", terminal_input},
    {"console-paste", console_paste},
    {"wide-terminal-input", wide_terminal_input},
    {"inherited", inherited},
    {"leave-child", leave_child},
    {"exhaust-descriptors", exhaust_descriptors},
    {"many-connections", many_connections},
    {"count-signals", count_signals},
    {"starts-thread", starts_thread},
};

int main(int count, char **given) {
  for (size_t at = 0; count > 1 && at < sizeof ATTEMPTS / sizeof *ATTEMPTS; at++) {
    if (strcmp(ATTEMPTS[at].name, given[1])) continue;
    arguments = given + 2;
    errno = 0;
    if (ATTEMPTS[at].attempt()) {
      printf("through: %s\n", given[1]);
      return 0;
    }
    printf("refused: %s: %s\n", given[1], strerror(errno));
    return 1;
  }
  fprintf(stderr, "no such attempt\n");
  return 2;
}
