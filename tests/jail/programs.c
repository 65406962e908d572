/* Programs for tests of signals and system calls in a jail. Usage: programs NAME [ARGUMENT...] */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALL_LANDLOCK_CREATE_RULESET 444

static void print(const char *line) {
  puts(line);
  fflush(stdout);
}

/* Makes a system call: its number, and up to four arguments. Writes the error. */
static int call(char **given) {
  long number[5] = {0};
  for (int at = 0; at < 5 && given[at]; at++) number[at] = strtol(given[at], NULL, 0);
  errno = 0;
  syscall(number[0], number[1], number[2], number[3], number[4], 0L, 0L);
  print(errno ? strerror(errno) : "through");
  return 0;
}

/* Stops with a signal, as a traced process does. A child kills it when it has stopped. */
static int traced(char **given) {
  pid_t traced = getpid();
  if (fork() == 0) {
    char path[64], text[256] = {0}, state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", traced);
    while (state != 't') {
      FILE *file = fopen(path, "r");
      if (file && fgets(text, sizeof text, file)) state = strrchr(text, ')')[2];
      if (file) fclose(file);
    }
    print("stopped");
    kill(traced, SIGKILL);
    _exit(0);
  }
  if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) return 1;
  raise(atoi(given[0]));
  return 1;
}

/* Sends a signal to process 1 of the jail again and again, and waits for it from outside. */
static int flood(char **given) {
  int is_forged = strcmp(given[0], "forged") == 0;
  sigset_t awaited;
  sigemptyset(&awaited);
  sigaddset(&awaited, SIGUSR2);
  sigprocmask(SIG_BLOCK, &awaited, NULL);
  int begun[2];
  char byte;
  if (pipe(begun)) return 1;
  if (fork() == 0) {
    siginfo_t forged = {.si_signo = SIGUSR2, .si_code = SI_QUEUE};
    for (int is_first = 1;; is_first = 0) {
      if (is_forged ? syscall(SYS_rt_sigqueueinfo, 1, SIGUSR2, &forged) : kill(1, SIGUSR2)) _exit(1);
      if (is_first && write(begun[1], "x", 1) != 1) _exit(1);
    }
  }
  close(begun[1]);
  if (read(begun[0], &byte, 1) != 1) return 1;
  print("ready");
  print(sigtimedwait(&awaited, NULL, &(struct timespec){10, 0}) == SIGUSR2 ? "got it" : "nothing");
  return 0;
}

/* Waits in a process group of its own, in the background of its terminal. */
static int own_group(char **given) {
  (void)given;
  if (setpgid(0, 0)) return 1;
  print("ready");
  for (;;) pause();
}

/* Traces a child of its own, as a debugger does. */
static int debugs(char **given) {
  (void)given;
  pid_t child = fork();
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    _exit(7);
  }
  int status;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 1;
  errno = 0;
  ptrace(PTRACE_PEEKDATA, child, &status, NULL);
  if (errno || ptrace(PTRACE_CONT, child, NULL, NULL)) return 1;
  if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 7) return 1;
  print("traced");
  return 0;
}

/* Runs a command on a kernel without Landlock. */
static int without_landlock(char **given) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALL_LANDLOCK_CREATE_RULESET, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 1;
  execvp(given[0], given);
  return 1;
}

int main(int count, char **given) {
  static const struct {
    const char *name;
    int (*program)(char **);
  } programs[] = {{"call", call},           {"traced", traced},
                  {"flood", flood},         {"own-group", own_group},
                  {"debugs", debugs},       {"without-landlock", without_landlock}};
  for (size_t at = 0; count > 1 && at < sizeof programs / sizeof *programs; at++)
    if (strcmp(programs[at].name, given[1]) == 0) return programs[at].program(given + 2);
  return 2;
}
