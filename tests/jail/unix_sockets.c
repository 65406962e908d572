/* Programs that use unix sockets in a jail. Usage: unix-sockets NAME [ARGUMENT...]
 *
 * A name that begins with '@' is abstract. Exits with 0 and writes "ok" or what it found out; exits with 1
 * and writes the failed step with its error. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char **arguments;
static int kind = SOCK_STREAM;

static void fail(const char *step) {
  printf("failed: %s: %s\n", step, strerror(errno));
  fflush(stdout);
  exit(1);
}

static int check(int outcome, const char *step) {
  if (outcome < 0) fail(step);
  return outcome;
}

static socklen_t unix_address(struct sockaddr_un *to, const char *name) {
  memset(to, 0, sizeof *to);
  to->sun_family = AF_UNIX;
  strncpy(to->sun_path, name, sizeof to->sun_path - 1);
  if (name[0] == '@') to->sun_path[0] = 0;
  return offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] != '@');
}

static int unix_socket(void) { return check(socket(AF_UNIX, kind, 0), "socket"); }

static int listen_at(const char *name, int backlog) {
  struct sockaddr_un at;
  socklen_t length = unix_address(&at, name);
  int s = unix_socket();
  check(bind(s, (void *)&at, length), "bind");
  check(listen(s, backlog), "listen");
  return s;
}

static int connect_to(int s, const char *name) {
  struct sockaddr_un to;
  socklen_t length = unix_address(&to, name);
  return connect(s, (void *)&to, length);
}

/* Serves one connection in a child, which says who connects. */
static pid_t serve(int listener, int count) {
  pid_t child = check(fork(), "fork");
  if (child) {
    close(listener);
    return child;
  }
  for (int i = 0; i < count; i++) {
    struct ucred peer = {0};
    socklen_t length = sizeof peer;
    int s = check(accept(listener, NULL, NULL), "accept");
    check(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &peer, &length), "SO_PEERCRED");
    const char *answer = peer.uid == getuid() && peer.gid == getgid() ? "inside" : "another user";
    check(send(s, answer, strlen(answer), 0), "send");
    close(s);
  }
  exit(0);
}

static void expect_inside(int s) {
  char bytes[64] = {0};
  check(recv(s, bytes, sizeof bytes - 1, 0), "recv");
  errno = EBADMSG;
  if (strcmp(bytes, "inside")) fail(bytes);
}

/* Two programs talk over a socket: NAME, and the name that the other one uses for it, and a directory in
 * which it does. */
static void talk(void) {
  const char *other = arguments[1] ? arguments[1] : arguments[0];
  serve(listen_at(arguments[0], 8), 1);
  if (arguments[1] && arguments[2]) check(chdir(arguments[2]), "chdir");
  int s = unix_socket();
  check(connect_to(s, other), "connect");
  expect_inside(s);
}
static void talk_packets(void) {
  kind = SOCK_SEQPACKET;
  talk();
}
/* The listening program forbids tracing, as ssh-agent does. */
static void talk_undumpable(void) {
  int listener = listen_at(arguments[0], 8);
  prctl(PR_SET_DUMPABLE, 0);
  serve(listener, 1);
  int s = unix_socket();
  check(connect_to(s, arguments[0]), "connect");
  expect_inside(s);
}
/* From a thread that is not the first, to a listener whose file was renamed. */
static void *in_thread(void *name) {
  int s = unix_socket();
  check(connect_to(s, name), "connect");
  expect_inside(s);
  return NULL;
}
static void talk_renamed(void) {
  serve(listen_at(arguments[0], 8), 1);
  check(rename(arguments[0], arguments[1]), "rename");
  pthread_t thread;
  pthread_create(&thread, NULL, in_thread, arguments[1]);
  pthread_join(thread, NULL);
}

static void connect_only(void) { check(connect_to(unix_socket(), arguments[0]), "connect"); }

/* Sends a descriptor over a socket, and receives one. */
static void pass(int over, int descriptor) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } rights = {{CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
  struct iovec byte = {"x", 1};
  struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
  memcpy(CMSG_DATA(&rights.header), &descriptor, sizeof descriptor);
  check(sendmsg(over, &message, 0), "sendmsg");
}
static int passed(int over) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } rights;
  char byte;
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
  int descriptor;
  check(recvmsg(over, &message, 0), "recvmsg");
  if (!CMSG_FIRSTHDR(&message)) fail("no descriptor");
  memcpy(&descriptor, CMSG_DATA(&rights.header), sizeof descriptor);
  return descriptor;
}

/* A socket that was made outside, which comes over standard input. */
static void connect_passed(void) { check(connect_to(passed(0), arguments[0]), "connect"); }
static void connect_passed_tcp(void) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[0]))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(connect(passed(0), (void *)&to, sizeof to), "connect");
}

/* A program connects, and another one uses the connection. */
static void talk_passed(void) {
  int pair[2];
  serve(listen_at(arguments[0], 8), 1);
  check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
  if (check(fork(), "fork") == 0) {
    int s = unix_socket();
    check(connect_to(s, arguments[0]), "connect");
    pass(pair[1], s);
    exit(0);
  }
  expect_inside(passed(pair[0]));
}

/* The kernel chooses the name. */
static void talk_autobind(void) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  socklen_t length = sizeof(sa_family_t);
  int listener = unix_socket();
  check(bind(listener, (void *)&at, length), "bind");
  check(listen(listener, 8), "listen");
  length = sizeof at;
  check(getsockname(listener, (void *)&at, &length), "getsockname");
  serve(listener, 1);
  int s = unix_socket();
  check(connect(s, (void *)&at, length), "connect");
  expect_inside(s);
}

/* Through a descriptor of the file. */
static void connect_open(void) {
  static const char *const forms[] = {"/proc/self/fd/%d", "/proc/thread-self/fd/%d", "/proc/%2$d/fd/%1$d",
                                      "/proc/self/task/%2$d/fd/%1$d", "/dev/fd/%d"};
  char path[64];
  int file = check(open(arguments[0], O_PATH), "open");
  snprintf(path, sizeof path, forms[atoi(arguments[1])], file, getpid());
  check(connect_to(unix_socket(), path), "connect");
}
static void talk_open(void) {
  listen_at(arguments[0], 8);
  for (int form = 0; form < 5; form++) {
    char number[2] = {'0' + form, 0};
    char *own[] = {arguments[0], number}, **given = arguments;
    arguments = own;
    connect_open();
    arguments = given;
  }
}

/* The file of a socket inside, which is known, becomes one of a socket outside: inside, outside. */
static void replaced(void) {
  char link[200];
  snprintf(link, sizeof link, "%s.link", arguments[0]);
  listen_at(arguments[0], 8);
  check(connect_to(unix_socket(), arguments[0]), "connect inside");
  check(symlink(arguments[1], link), "symlink");
  check(rename(link, arguments[0]), "rename");
  if (connect_to(unix_socket(), arguments[0]) == 0 || errno != EACCES) fail("a link");
  check(rename(arguments[1], arguments[0]), "rename");
  if (connect_to(unix_socket(), arguments[0]) == 0 || errno != EACCES) fail("another file");
  check(rename(arguments[0], arguments[1]), "rename");
}

/* Only `connect` leads from a socket of a connected type to an address. */
static void addressed(void) {
  struct sockaddr_un to;
  socklen_t length = unix_address(&to, arguments[0]);
  struct iovec byte = {"x", 1};
  struct mmsghdr message = {
      .msg_hdr = {.msg_name = &to, .msg_namelen = length, .msg_iov = &byte, .msg_iovlen = 1}};
  static const int kinds[] = {SOCK_STREAM, SOCK_SEQPACKET};
  for (int i = 0; i < 2; i++) {
    kind = kinds[i];
    int s = unix_socket();
    if (sendto(s, "x", 1, 0, (void *)&to, length) >= 0) fail("sendto");
    if (sendto(s, "x", 1, MSG_FASTOPEN, (void *)&to, length) >= 0) fail("MSG_FASTOPEN");
    if (sendmsg(s, &message.msg_hdr, 0) >= 0) fail("sendmsg");
    if (sendmmsg(s, &message, 1, 0) >= 0) fail("sendmmsg");
  }
}

/* A thread executes another program while a call of this one waits: full, name. */
static void *connect_for_good(void *unused) {
  (void)unused;
  connect_to(unix_socket(), arguments[0]);
  return NULL;
}

/* A handler without SA_RESTART interrupts a call that waits. */
static int full_listener(const char *name);
static void on_alarm(int unused) { (void)unused; }
static void interrupted(void) {
  struct sigaction action = {.sa_handler = on_alarm};
  full_listener(arguments[0]);
  sigaction(SIGALRM, &action, NULL);
  alarm(1);
  if (connect_to(unix_socket(), arguments[0]) == 0 || errno != EINTR) fail("not interrupted");
}

/* THREADS make COUNT connections each, in PROCESSES one after the other. */
static void *some(void *unused) {
  (void)unused;
  for (int i = 0; i < atoi(arguments[2]); i++) {
    int s = unix_socket();
    check(connect_to(s, arguments[0]), "connect");
    expect_inside(s);
    close(s);
  }
  return NULL;
}
static void many_threads(void) {
  int count = atoi(arguments[1]);
  pthread_t threads[count];
  serve(listen_at(arguments[0], 64), 2 * count * atoi(arguments[2]));
  for (int i = 0; i < count; i++) check(-pthread_create(threads + i, NULL, some, NULL), "thread");
  for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < count; i++) {
    int status;
    pid_t child = check(fork(), "fork");
    if (child == 0) {
      some(NULL);
      exit(0);
    }
    check(waitpid(child, &status, 0), "waitpid");
    if (status) fail("a child");
  }
}

static void datagrams(void) {
  kind = SOCK_DGRAM;
  unix_socket();
}

/* A file without a socket, and one whose socket does not listen. */
static void left_behind(void) {
  struct sockaddr_un at;
  socklen_t length = unix_address(&at, arguments[0]);
  int bound = unix_socket();
  check(bind(bound, (void *)&at, length), "bind");
  int s = unix_socket();
  if (connect_to(s, arguments[0]) == 0 || errno != ECONNREFUSED) fail("not listening");
  close(bound);
  if (connect_to(s, arguments[0]) == 0 || errno != ECONNREFUSED) fail("left behind");
  check(unlink(arguments[0]), "unlink");
  if (connect_to(s, arguments[0]) == 0 || errno != ENOENT) fail("missing");
  check(open(arguments[0], O_CREAT | O_WRONLY, 0600), "open");
  if (connect_to(s, arguments[0]) == 0 || errno != ECONNREFUSED) fail("an ordinary file");
  check(unlink(arguments[0]), "unlink");
}

/* The errors of bad calls are the kernel's. */
static void expect_error(int outcome, int error, const char *what) {
  if (outcome == 0 || errno != error) fail(what);
}
static void errors(void) {
  struct sockaddr_un to;
  socklen_t length = unix_address(&to, "@nothing");
  struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(9)};
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int s = unix_socket();
  int tcp = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
  int file = check(open("/dev/null", O_RDONLY), "open");
  expect_error(connect(-1, (void *)&to, length), EBADF, "no descriptor");
  expect_error(connect(file, (void *)&to, length), ENOTSOCK, "a file");
  expect_error(connect(s, (void *)1, length), EFAULT, "no memory");
  expect_error(connect(s, (void *)&to, -1), EINVAL, "a negative length");
  expect_error(connect(s, (void *)&to, 129), EINVAL, "a long address");
  expect_error(connect(s, (void *)&to, 2), EINVAL, "no name");
  expect_error(connect(s, (void *)&v4, sizeof v4), EINVAL, "another family");
  expect_error(connect(s, (void *)&to, length), ECONNREFUSED, "no listener");
  expect_error(connect(tcp, (void *)&to, sizeof to), EAFNOSUPPORT, "another domain");
  expect_error(connect(tcp, (void *)&v4, 4), EINVAL, "a short address");
  expect_error(connect(tcp, (void *)&v4, sizeof v4), ECONNREFUSED, "a closed port");
}

/* A listener that accepts nothing. Its queue is full after a few connections. */
static int full_listener(const char *name) {
  int listener = listen_at(name, 0);
  int s;
  do s = check(socket(AF_UNIX, kind | SOCK_NONBLOCK, 0), "socket");
  while (connect_to(s, name) == 0);
  if (errno != EAGAIN) fail("not full");
  return listener;
}
/* Waits until a process sleeps. */
static void await_sleep(pid_t process) {
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/%d/stat", process);
  for (;;) {
    FILE *file = fopen(path, "r");
    char *state = NULL;
    if (file && fgets(text, sizeof text, file)) state = strrchr(text, ')');
    if (file) fclose(file);
    if (!state || state[2] == 'Z') fail("a call did not wait");
    if (state[2] == 'S') return;
    sched_yield();
  }
}
static void *execute(void *own) {
  char name[32];
  snprintf(name, sizeof name, "@executed-%d", getpid());
  execl("/proc/self/exe", own, "talk", name, (char *)NULL);
  fail("execl");
  return NULL;
}
static void execute_meanwhile(void) {
  pthread_t first, second;
  full_listener(arguments[0]);
  pthread_create(&first, NULL, connect_for_good, NULL);
  connect_to(unix_socket(), "@nothing");
  pthread_create(&second, NULL, execute, "unix-sockets");
  pthread_join(first, NULL);
  fail("the call ended");
}

/* Calls that block hold nothing up, those of killed callers end, and the last one succeeds once there is
 * room. */
static void blocked(void) {
  pid_t children[200];
  int listener = full_listener(arguments[0]);
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 100; i++) {
      children[i] = check(fork(), "fork");
      if (children[i] == 0) {
        int s = unix_socket();
        while (connect_to(s, arguments[0]) && errno == EAGAIN);
        exit(0);
      }
    }
    serve(listen_at(round ? "@second" : "@first", 8), 1);
    int s = unix_socket();
    check(connect_to(s, round ? "@second" : "@first"), "connect");
    expect_inside(s);
    for (int i = 0; i < 100; i++) {
      await_sleep(children[i]);
      kill(children[i], SIGKILL);
      int status;
      check(waitpid(children[i], &status, 0), "waitpid");
      errno = 0;
      if (!WIFSIGNALED(status)) fail("a call did not wait");
    }
  }
  pid_t child = check(fork(), "fork");
  if (child == 0) {
    int s = unix_socket();
    /* Calls of killed callers may wait for a moment. */
    while (connect_to(s, arguments[0]))
      if (errno != EAGAIN) fail("connect");
    exit(0);
  }
  int status;
  while (waitpid(child, &status, WNOHANG) == 0) {
    struct timespec moment = {0, 10000000};
    nanosleep(&moment, NULL);
    close(accept(listener, NULL, NULL));
  }
  errno = 0;
  if (!WIFEXITED(status) || WEXITSTATUS(status)) fail("the last call");
  /* The time limit of the socket itself. */
  struct timeval limit = {0, 100000}, after;
  socklen_t size = sizeof after;
  do {
    int s = unix_socket();
    check(setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), "SO_SNDTIMEO");
    status = connect_to(s, arguments[0]);
    int error = errno;
    check(getsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &after, &size), "SO_SNDTIMEO");
    if (after.tv_sec != 0 || after.tv_usec < 100000 || after.tv_usec > 110000) fail("another time limit");
    errno = error;
  } while (status == 0);
  if (errno != EAGAIN) fail("not the time limit");
}

/* Threads change the address and the descriptor of calls between one socket in the jail and one outside,
 * for a second. NAME inside, NAME outside. */
static struct sockaddr_un changing;
static volatile int descriptor, over;
static int outside; /* a socket that was made outside */
static void *change_address(void *unused) {
  (void)unused;
  struct sockaddr_un inside, outside;
  unix_address(&inside, arguments[0]);
  unix_address(&outside, arguments[1]);
  while (!over) {
    memcpy(&changing, &inside, sizeof changing);
    __asm__ volatile("" ::: "memory");
    memcpy(&changing, &outside, sizeof changing);
    __asm__ volatile("" ::: "memory");
  }
  return NULL;
}
static void *change_descriptor(void *unused) {
  (void)unused;
  while (!over) {
    int fresh = unix_socket();
    dup2(fresh, descriptor);
    close(fresh);
    dup2(outside, descriptor);
  }
  return NULL;
}
static void race(void) {
  outside = passed(0);
  int listener = listen_at(arguments[0], 64);
  if (fork() == 0) {
    for (;;) close(accept(listener, NULL, NULL));
  }
  pthread_t first, second;
  descriptor = unix_socket();
  pthread_create(&first, NULL, change_address, NULL);
  pthread_create(&second, NULL, change_descriptor, NULL);
  time_t end = time(NULL) + 3;
  int made = 0, tried = 0;
  do {
    int s = unix_socket();
    made += connect(s, (void *)&changing, sizeof changing) == 0;
    close(s);
    connect(descriptor, (void *)&changing, sizeof changing);
    tried++;
  } while (time(NULL) < end);
  over = 1;
  pthread_join(first, NULL);
  pthread_join(second, NULL);
  errno = 0;
  if (!made || made == tried) fail("no race");
}

/* A file whose link is changed between a socket inside and one outside: LINK, inside, outside. */
static void race_links(void) {
  char fresh[200];
  snprintf(fresh, sizeof fresh, "%s.new", arguments[0]);
  int listener = listen_at(arguments[1], 64);
  if (fork() == 0) {
    for (;;) close(accept(listener, NULL, NULL));
  }
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0;; i++) {
      if (symlink(arguments[1 + i % 2], fresh) == 0) rename(fresh, arguments[0]);
    }
  }
  time_t end = time(NULL) + 3;
  int made = 0, tried = 0;
  do {
    int s = unix_socket();
    made += connect_to(s, arguments[0]) == 0;
    close(s);
    tried++;
  } while (time(NULL) < end);
  kill(child, SIGKILL);
  errno = 0;
  if (!made || made == tried) fail("no race");
}

/* A program cannot install a listener for `connect` itself, and let the calls go on. */
static void own_listener(void) {
  struct sock_filter all[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_USER_NOTIF}};
  struct sock_fprog program = {1, all};
  check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program), "seccomp");
}

/* COUNT connections to NAME. */
static void many(void) {
  int count = atoi(arguments[1]);
  serve(listen_at(arguments[0], 64), count);
  for (int i = 0; i < count; i++) {
    int s = unix_socket();
    check(connect_to(s, arguments[0]), "connect");
    expect_inside(s);
    close(s);
  }
}

/* COUNT connections over TCP to a listener of this program. Writes microseconds for each. With "blocking"
 * or "non-blocking". */
static void tcp(void) {
  int count = atoi(arguments[0]);
  int flags = strcmp(arguments[1], "blocking") ? SOCK_NONBLOCK : 0;
  struct sockaddr_in at = {.sin_family = AF_INET};
  socklen_t length = sizeof at;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int listener = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
  check(bind(listener, (void *)&at, sizeof at), "bind");
  check(listen(listener, 64), "listen");
  check(getsockname(listener, (void *)&at, &length), "getsockname");
  struct timespec begin, end;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  for (int i = 0; i < count; i++) {
    int s = check(socket(AF_INET, SOCK_STREAM | flags, 0), "socket");
    if (connect(s, (void *)&at, sizeof at) && errno != EINPROGRESS) fail("connect");
    close(check(accept(listener, NULL, NULL), "accept"));
    close(s);
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  double seconds = end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9;
  if (arguments[2]) printf("%.2f\n", seconds * 1e6 / count);
}

/* Sockets that block only after the look at their flags: each tries until its call waits. */
static void *toggle(void *socket) {
  int s = *(int *)socket;
  for (;;) {
    fcntl(s, F_SETFL, O_NONBLOCK);
    fcntl(s, F_SETFL, 0);
  }
  return NULL;
}
static void holds_up(void) {
  full_listener("@jail-test-full");
  serve(listen_at("@jail-test-other", 8), 1);
  for (int i = 0; i < 4; i++) {
    if (check(fork(), "fork")) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int s = check(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
    pthread_t thread;
    check(-pthread_create(&thread, NULL, toggle, &s), "thread");
    while (connect_to(s, "@jail-test-full"));
    exit(0);
  }
  sleep(2);
  alarm(20);
  int s = unix_socket();
  check(connect_to(s, "@jail-test-other"), "connect");
  expect_inside(s);
}

static const struct {
  const char *name;
  void (*run)(void);
} programs[] = {
    {"talk", talk},
    {"talk-packets", talk_packets},
    {"talk-undumpable", talk_undumpable},
    {"talk-renamed", talk_renamed},
    {"connect", connect_only},
    {"connect-passed", connect_passed},
    {"connect-passed-tcp", connect_passed_tcp},
    {"talk-passed", talk_passed},
    {"talk-autobind", talk_autobind},
    {"talk-open", talk_open},
    {"connect-open", connect_open},
    {"replaced", replaced},
    {"addressed", addressed},
    {"execute-meanwhile", execute_meanwhile},
    {"interrupted", interrupted},
    {"many-threads", many_threads},
    {"datagrams", datagrams},
    {"left-behind", left_behind},
    {"errors", errors},
    {"blocked", blocked},
    {"holds-up", holds_up},
    {"race", race},
    {"race-links", race_links},
    {"own-listener", own_listener},
    {"many", many},
    {"tcp", tcp},
};

int main(int count, char **given) {
  signal(SIGPIPE, SIG_IGN);
  for (size_t i = 0; count > 1 && i < sizeof programs / sizeof *programs; i++) {
    if (strcmp(programs[i].name, given[1])) continue;
    arguments = given + 2;
    programs[i].run();
    printf("ok\n");
    return 0;
  }
  fprintf(stderr, "no such program\n");
  return 2;
}
