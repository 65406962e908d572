//! A process that is confined like the worker tries what an attacker in its place would: each
//! attempt is a row, made for real, with the expected error.
//!
//! Every call on a list of `calls` has a row that shows what it permits; a conditional one also has
//! a row that shows what it refuses. Every other number is tried too.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

use super::super::{confine, drop_privilege};
use super::calls::{ALLOWED, ANSWERED, CONDITIONAL};
use super::restrict_reach;
use crate::privsep::message::{Account, Confinement};

/// Set in a child that must confine itself.
const CHILD: &str = "CODEX_NETWORK_PROXY_TEST_CONFINED";
/// A child prints this when every attempt had the expected result.
const DONE: &str = "every attempt came out as it should";
/// The number with which the child may outlive its parent.
const RELEASE: u64 = 0x1234_5678_9abc_def0;
/// Beyond the last system call of every kernel.
const NUMBERS: i64 = 700;
/// Numbers of the 32-bit calls that a 64-bit process may make on x86 (`__X32_SYSCALL_BIT`).
const X32: i64 = 0x4000_0000;

/// `uprobe` and `uretprobe` on x86: only the kernel's own probes make them, no filter sees them,
/// and any other caller gets SIGILL.
const PROBES: std::ops::RangeInclusive<i64> = 335..=336;

/// The error of a call that the filters permit, with an invalid descriptor.
const BAD_DESCRIPTOR: i32 = libc::EBADF;
const REFUSED: i32 = libc::EPERM;

/// One attempt.
struct Row {
    what: &'static str,
    call: i64,
    arguments: [i64; 6],
    /// 0 for success.
    error: i32,
}

/// Values that an attempt needs.
struct Scene {
    buffer: Box<[u8; 4096]>,
    path: &'static CStr,
    /// The address of a unix socket (`sockaddr_un`) by a path, and its length.
    unix: [u8; 16],
    journal: i64,
    /// The address of a page of this process's memory.
    page: i64,
}

impl Scene {
    fn new(journal: &UnixDatagram) -> Self {
        let mut unix = [0; 16];
        unix[..2].copy_from_slice(
            &u16::try_from(libc::AF_UNIX)
                .expect("a family")
                .to_ne_bytes(),
        );
        unix[2..10].copy_from_slice(b"/dev/log");
        let mut scene = Self {
            buffer: Box::new([0; 4096]),
            path: c"/etc/passwd",
            unix,
            journal: journal.as_raw_fd().into(),
            page: 0,
        };
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let memory = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        scene.page = try_call(
            libc::SYS_mmap,
            [0, 4096, writable.into(), memory.into(), -1, 0],
        )
        .expect("a page");
        scene
    }

    /// The address of zeros.
    fn memory(&self) -> i64 {
        self.buffer.as_ptr() as i64
    }

    /// The address that calls write to.
    fn out(&self) -> i64 {
        self.memory() + 2048
    }
}

#[expect(unsafe_code, reason = "calls that no library makes")]
fn try_call(call: i64, arguments: [i64; 6]) -> Result<i64, i32> {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    // SAFETY: a permitted call gets null pointers, memory of the scene that outlives the call, or
    // invalid descriptors; a refused one has no effect.
    let outcome = unsafe { libc::syscall(call, first, second, third, fourth, fifth, sixth) };
    if outcome == -1 {
        let error = std::io::Error::last_os_error();
        return Err(error.raw_os_error().expect("an error of the system"));
    }
    Ok(outcome)
}

fn row(what: &'static str, call: i64, arguments: &[i64], error: i32) -> Row {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    Row {
        what,
        call,
        arguments: all,
        error,
    }
}

/// The attempts.
fn rows(scene: &Scene) -> Vec<Row> {
    let mut rows = bytes(scene);
    rows.extend(sockets(scene));
    rows.extend(descriptors(scene));
    rows.extend(waiting_and_memory(scene));
    rows.extend(processes(scene));
    rows.extend(files(scene));
    #[cfg(target_arch = "x86_64")]
    rows.extend(of_old(scene));
    rows
}

/// Bytes in and out.
#[rustfmt::skip]
fn bytes(scene: &Scene) -> Vec<Row> {
    let memory = scene.memory();
    let out = scene.out();
    let number = i64::from;
    vec![
        row("read", libc::SYS_read, &[-1, memory, 1], BAD_DESCRIPTOR),
        row("write", libc::SYS_write, &[-1, memory, 1], BAD_DESCRIPTOR),
        row("read into parts", libc::SYS_readv, &[-1, memory, 1], BAD_DESCRIPTOR),
        row("write parts", libc::SYS_writev, &[-1, memory, 1], BAD_DESCRIPTOR),
        row("read at a place", libc::SYS_pread64, &[-1, memory, 1, 0], BAD_DESCRIPTOR),
        row("splice", libc::SYS_splice, &[-1, 0, -1, 0, 1, 0], BAD_DESCRIPTOR),
        row("receive", libc::SYS_recvfrom, &[-1, memory, 1, 0, 0, 0], BAD_DESCRIPTOR),
        row("receive descriptors", libc::SYS_recvmsg, &[-1, memory, 0], BAD_DESCRIPTOR),
        row("close", libc::SYS_close, &[-1], BAD_DESCRIPTOR),
        row("make a pipe", libc::SYS_pipe2, &[out, number(libc::O_CLOEXEC)], 0),
        row("find the end of a file", libc::SYS_lseek, &[-1, 0, 2], BAD_DESCRIPTOR),
    ]
}

/// Sockets.
#[rustfmt::skip]
fn sockets(scene: &Scene) -> Vec<Row> {
    let memory = scene.memory();
    let out = scene.out();
    let unix = scene.unix.as_ptr() as i64;
    let journal = scene.journal;
    let number = i64::from;
    let stream = i64::from(libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    let datagram = i64::from(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
    let inet = i64::from(libc::AF_INET);
    let inet6 = i64::from(libc::AF_INET6);
    let local = i64::from(libc::AF_UNIX);
    vec![
        row("accept", libc::SYS_accept4, &[-1, 0, 0, 0], BAD_DESCRIPTOR),
        row("shut down", libc::SYS_shutdown, &[-1, 0], BAD_DESCRIPTOR),
        row("ask for its address", libc::SYS_getsockname, &[-1, memory, memory], BAD_DESCRIPTOR),
        row("ask for the peer's", libc::SYS_getpeername, &[-1, memory, memory], BAD_DESCRIPTOR),
        row("set an option", libc::SYS_setsockopt, &[-1, 1, 9, memory, 4], BAD_DESCRIPTOR),
        row("ask for one", libc::SYS_getsockopt, &[-1, 1, 9, memory, memory], BAD_DESCRIPTOR),
        row("make a TCP socket", libc::SYS_socket, &[inet, stream, 0], 0),
        row("make it by name", libc::SYS_socket, &[inet6, stream, number(libc::IPPROTO_TCP)], 0),
        row("make a UDP socket", libc::SYS_socket, &[inet6, datagram, 0], 0),
        row("make a unix socket", libc::SYS_socket, &[local, stream, 0], REFUSED),
        row("make a unix datagram socket", libc::SYS_socket, &[local, datagram, 0], REFUSED),
        row("talk to the kernel's network", libc::SYS_socket, &[number(libc::AF_NETLINK), datagram, 0], REFUSED),
        row("make packets", libc::SYS_socket, &[number(libc::AF_PACKET), datagram, 0], REFUSED),
        row("make raw packets", libc::SYS_socket, &[inet, number(libc::SOCK_RAW), number(libc::IPPROTO_TCP)], REFUSED),
        row("ping", libc::SYS_socket, &[inet, datagram, number(libc::IPPROTO_ICMP)], REFUSED),
        row("use another protocol", libc::SYS_socket, &[inet, stream, number(libc::IPPROTO_SCTP)], REFUSED),
        row("use the kernel's ciphers", libc::SYS_socket, &[number(libc::AF_ALG), number(libc::SOCK_SEQPACKET), 0], REFUSED),
        row("make a pair of stream sockets", libc::SYS_socketpair, &[local, stream, 0, out], 0),
        row("make a pair of datagram sockets", libc::SYS_socketpair, &[local, datagram, 0, out], REFUSED),
        row("make a pair of packet sockets", libc::SYS_socketpair, &[local, number(libc::SOCK_SEQPACKET), 0, out], REFUSED),
        row("connect", libc::SYS_connect, &[-1, memory, 16], BAD_DESCRIPTOR),
        row("connect the journal's socket to another", libc::SYS_connect, &[journal, unix, 16], REFUSED),
        row("connect standard error to another", libc::SYS_connect, &[2, unix, 16], REFUSED),
        row("bind", libc::SYS_bind, &[-1, memory, 16], BAD_DESCRIPTOR),
        row("bind the journal's socket", libc::SYS_bind, &[journal, unix, 16], REFUSED),
        row("send", libc::SYS_sendto, &[-1, memory, 1, 0, 0, 0], BAD_DESCRIPTOR),
        row("send to another than the journal", libc::SYS_sendto, &[journal, memory, 1, 0, unix, 16], REFUSED),
        row("send to another than who reads the log", libc::SYS_sendto, &[2, memory, 1, 0, unix, 16], REFUSED),
        row("write to the journal", libc::SYS_write, &[journal, memory, 1], 0),
        row("pass descriptors on", libc::SYS_sendmsg, &[-1, memory, 0], REFUSED),
        row("pass several on", libc::SYS_sendmmsg, &[-1, memory, 1, 0], REFUSED),
        row("listen", libc::SYS_listen, &[-1, 1], REFUSED),
    ]
}

/// Flags, copies and signals of descriptors.
#[rustfmt::skip]
fn descriptors(scene: &Scene) -> Vec<Row> {
    let memory = scene.memory();
    let journal = scene.journal;
    let parent = i64::from(nix::unistd::getppid().as_raw());
    let pipe_bytes = i32::try_from(codex_network_engine::PIPE_BYTES).expect("a small number");
    let number = i64::from;
    vec![
        row("ask for flags", libc::SYS_fcntl, &[1, number(libc::F_GETFL)], 0),
        row("ask for a descriptor's", libc::SYS_fcntl, &[1, number(libc::F_GETFD)], 0),
        row("set a descriptor's", libc::SYS_fcntl, &[-1, number(libc::F_SETFD), 1], BAD_DESCRIPTOR),
        row("make it not block", libc::SYS_fcntl, &[-1, number(libc::F_SETFL), number(libc::O_NONBLOCK)], BAD_DESCRIPTOR),
        row("copy one", libc::SYS_fcntl, &[-1, number(libc::F_DUPFD_CLOEXEC), 0], BAD_DESCRIPTOR),
        row("size a pipe for a tunnel", libc::SYS_fcntl, &[-1, number(libc::F_SETPIPE_SZ), number(pipe_bytes)], BAD_DESCRIPTOR),
        row("size a larger one", libc::SYS_fcntl, &[-1, number(libc::F_SETPIPE_SZ), number(2 * pipe_bytes)], REFUSED),
        row("copy the journal's socket", libc::SYS_fcntl, &[journal, number(libc::F_DUPFD_CLOEXEC), 0], REFUSED),
        row("copy it for other programs", libc::SYS_fcntl, &[journal, number(libc::F_DUPFD), 0], REFUSED),
        row("copy it by another call", libc::SYS_dup, &[journal], REFUSED),
        row("copy it over another", libc::SYS_dup3, &[journal, 0, 0], REFUSED),
        row("copy standard error", libc::SYS_fcntl, &[2, number(libc::F_DUPFD_CLOEXEC), 0], REFUSED),
        row("name who gets its signals", libc::SYS_fcntl, &[1, number(libc::F_SETOWN), parent], REFUSED),
        row("name a thread for them", libc::SYS_fcntl, &[1, 15 /* F_SETOWN_EX */, memory], REFUSED),
        row("choose the signal", libc::SYS_fcntl, &[1, 10 /* F_SETSIG */, number(libc::SIGKILL)], REFUSED),
        row("have signals sent", libc::SYS_fcntl, &[1, number(libc::F_SETFL), number(libc::O_ASYNC)], REFUSED),
        row("have signals sent by changes", libc::SYS_fcntl, &[1, number(libc::F_NOTIFY), 1], REFUSED),
        row("have signals sent by leases", libc::SYS_fcntl, &[1, number(libc::F_SETLEASE), 0], REFUSED),
        row("lock", libc::SYS_fcntl, &[1, number(libc::F_SETLK), memory], REFUSED),
        row("seal", libc::SYS_fcntl, &[1, number(libc::F_ADD_SEALS), 1], REFUSED),
        row("make a socket not block", libc::SYS_ioctl, &[-1, 0x5421 /* FIONBIO */, memory], BAD_DESCRIPTOR),
        row("keep it from other programs", libc::SYS_ioctl, &[-1, 0x5451 /* FIOCLEX */], BAD_DESCRIPTOR),
        row("have signals sent by a socket", libc::SYS_ioctl, &[1, 0x5452 /* FIOASYNC */, memory], REFUSED),
        row("name who gets a socket's signals", libc::SYS_ioctl, &[1, 0x8901 /* FIOSETOWN */, memory], REFUSED),
        row("name them by another request", libc::SYS_ioctl, &[1, 0x8902 /* SIOCSPGRP */, memory], REFUSED),
        row("type into the terminal", libc::SYS_ioctl, &[2, 0x5412 /* TIOCSTI */, memory], REFUSED),
        row("ask for interfaces", libc::SYS_ioctl, &[1, 0x8912 /* SIOCGIFCONF */, memory], REFUSED),
    ]
}

/// Waiting, clocks and memory.
#[rustfmt::skip]
fn waiting_and_memory(scene: &Scene) -> Vec<Row> {
    let memory = scene.memory();
    let out = scene.out();
    let path = scene.path.as_ptr() as i64;
    let page = scene.page;
    let number = i64::from;
    let read = i64::from(libc::PROT_READ);
    let write = i64::from(libc::PROT_WRITE);
    let execute = i64::from(libc::PROT_EXEC);
    let anonymous = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    vec![
        row("make a poll set", libc::SYS_epoll_create1, &[number(libc::EPOLL_CLOEXEC)], 0),
        row("add to it", libc::SYS_epoll_ctl, &[-1, 1, -1, memory], BAD_DESCRIPTOR),
        row("wait for it", libc::SYS_epoll_pwait, &[-1, memory, 1, 0, 0, 8], BAD_DESCRIPTOR),
        row("wait for descriptors", libc::SYS_ppoll, &[memory, 0, memory, 0, 8], 0),
        row("make a counter", libc::SYS_eventfd2, &[0, 0], 0),
        row("wake threads", libc::SYS_futex, &[memory, number(libc::FUTEX_WAKE), 1], 0),
        row("sleep for no time", libc::SYS_nanosleep, &[memory, 0], 0),
        row("sleep by a clock", libc::SYS_clock_nanosleep, &[0, 0, memory, 0], 0),
        row("read a clock", libc::SYS_clock_gettime, &[0, out], 0),
        row("ask for the time", libc::SYS_gettimeofday, &[out, 0], 0),
        row("set a clock", libc::SYS_clock_settime, &[0, memory], REFUSED),
        row("give way", libc::SYS_sched_yield, &[], 0),
        // Memory.
        row("map memory", libc::SYS_mmap, &[0, 4096, read | write, anonymous, -1, 0], 0),
        row("map memory for instructions", libc::SYS_mmap, &[0, 4096, read | execute, anonymous, -1, 0], REFUSED),
        row("map it for both", libc::SYS_mmap, &[0, 4096, read | write | execute, anonymous, -1, 0], REFUSED),
        row("protect memory", libc::SYS_mprotect, &[page, 4096, read], 0),
        row("make instructions of it", libc::SYS_mprotect, &[page, 4096, read | execute], REFUSED),
        row("make them by another call", libc::SYS_pkey_mprotect, &[page, 4096, read | execute, -1], REFUSED),
        row("unmap nothing", libc::SYS_munmap, &[1, 4096], libc::EINVAL),
        row("move nothing", libc::SYS_mremap, &[1, 4096, 4096, 0, 0], libc::EINVAL),
        row("advise on nothing", libc::SYS_madvise, &[1, 4096, 0], libc::EINVAL),
        row("ask for the break", libc::SYS_brk, &[0], 0),
        row("ask for barriers", libc::SYS_membarrier, &[0, 0, 0], 0),
        row("make a file in memory", libc::SYS_memfd_create, &[path, 0], REFUSED),
    ]
}

/// Threads, processes, and identity. The loop over the rows shows that threads can be made.
#[rustfmt::skip]
fn processes(scene: &Scene) -> Vec<Row> {
    let memory = scene.memory();
    let out = scene.out();
    let path = scene.path.as_ptr() as i64;
    let own = i64::from(std::process::id());
    let parent = i64::from(nix::unistd::getppid().as_raw());
    let number = i64::from;
    let released = RELEASE.cast_signed();
    vec![
        row("fork", libc::SYS_clone, &[number(libc::SIGCHLD)], REFUSED),
        row("make a thread with a user namespace", libc::SYS_clone, &[number(libc::CLONE_THREAD | libc::CLONE_NEWUSER)], REFUSED),
        row("make a process by another call", libc::SYS_clone3, &[memory, 88], libc::ENOSYS),
        row("register robust futexes", libc::SYS_set_robust_list, &[0, 0], libc::EINVAL),
        row("register a sequence", libc::SYS_rseq, &[0, 0, 0, 0], libc::EINVAL),
        row("ask for its thread id", libc::SYS_gettid, &[], 0),
        row("ask for its process id", libc::SYS_getpid, &[], 0),
        row("ask for a signal's handler", libc::SYS_rt_sigaction, &[number(libc::SIGHUP), 0, out, 8], 0),
        row("ask for blocked signals", libc::SYS_rt_sigprocmask, &[0, 0, out, 8], 0),
        row("ask for the signal stack", libc::SYS_sigaltstack, &[0, out], 0),
        row("ask for its processors", libc::SYS_sched_getaffinity, &[0, 1024, out], 0),
        row("signal itself", libc::SYS_tgkill, &[own, -1, 0], libc::EINVAL),
        row("signal a thread of the parent", libc::SYS_tgkill, &[parent, parent, 0], REFUSED),
        row("signal the parent", libc::SYS_kill, &[parent, 0], REFUSED),
        row("signal all processes of its user", libc::SYS_kill, &[-1, 0], REFUSED),
        row("queue a signal", libc::SYS_rt_sigqueueinfo, &[parent, 0, memory], REFUSED),
        row("signal by descriptor", libc::SYS_pidfd_open, &[parent, 0], REFUSED),
        row("trace the parent", libc::SYS_ptrace, &[16, parent, 0, 0], REFUSED),
        row("read the parent's memory", libc::SYS_process_vm_readv, &[parent, 0, 0, 0, 0, 0], REFUSED),
        row("name a thread", libc::SYS_prctl, &[number(libc::PR_SET_NAME), path], 0),
        row("be looked into", libc::SYS_prctl, &[number(libc::PR_SET_DUMPABLE), 1], REFUSED),
        row("be traced", libc::SYS_prctl, &[number(libc::PR_SET_PTRACER), -1], REFUSED),
        row("outlive the monitor", libc::SYS_prctl, &[number(libc::PR_SET_PDEATHSIG), 0], REFUSED),
        row("outlive it with a guess", libc::SYS_prctl, &[number(libc::PR_SET_PDEATHSIG), 0, 1], REFUSED),
        row("die of another signal", libc::SYS_prctl, &[number(libc::PR_SET_PDEATHSIG), 15, released], REFUSED),
        row("outlive it when it is released", libc::SYS_prctl, &[number(libc::PR_SET_PDEATHSIG), 0, released], 0),
        row("ask for its limits", libc::SYS_prlimit64, &[0, 7, 0, out], 0),
        row("ask by its process id", libc::SYS_prlimit64, &[own, 7, 0, out], 0),
        row("ask for the parent's", libc::SYS_prlimit64, &[parent, 7, 0, out], REFUSED),
        row("set its limits", libc::SYS_prlimit64, &[0, 7, memory, 0], REFUSED),
        row("start a program", libc::SYS_execve, &[path, 0, 0], REFUSED),
        // Who it is.
        row("ask who it is", libc::SYS_geteuid, &[], 0),
        row("ask for chance", libc::SYS_getrandom, &[out, 8, 0], 0),
        row("become root", libc::SYS_setuid, &[0], REFUSED),
    ]
}

/// Files.
#[rustfmt::skip]
fn files(scene: &Scene) -> Vec<Row> {
    let memory = scene.memory();
    let out = scene.out();
    let path = scene.path.as_ptr() as i64;
    let here = i64::from(libc::AT_FDCWD);
    let number = i64::from;
    vec![
        row("open what all users may read", libc::SYS_openat, &[here, path, 0], libc::EACCES),
        row("open it for its name alone", libc::SYS_openat, &[here, path, number(libc::O_PATH)], libc::EACCES),
        row("open it by another call", libc::SYS_openat2, &[here, path, memory, 24], libc::EACCES),
        row("make a file", libc::SYS_openat, &[here, path, number(libc::O_CREAT | libc::O_WRONLY), 0o600], libc::EACCES),
        row("learn of a file", libc::SYS_newfstatat, &[here, path, out, 0], libc::EACCES),
        row("learn more", libc::SYS_statx, &[here, path, 0, 0xfff, out], libc::EACCES),
        row("learn of an open one", libc::SYS_fstat, &[1, out], libc::EACCES),
        row("read a link", libc::SYS_readlinkat, &[here, path, out, 8], libc::EACCES),
        row("ask whether it may", libc::SYS_faccessat, &[here, path, 0], libc::EACCES),
        row("ask by another call", libc::SYS_faccessat2, &[here, path, 0, 0], libc::EACCES),
        row("learn of a file system", libc::SYS_statfs, &[path, out], libc::EACCES),
        row("ask where it is", libc::SYS_getcwd, &[out, 64], libc::EACCES),
    ]
}

/// Calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
fn of_old(scene: &Scene) -> Vec<Row> {
    let memory = scene.memory();
    let out = scene.out();
    let path = scene.path.as_ptr() as i64;
    vec![
        row("wait for a poll set the old way", libc::SYS_epoll_wait, &[-1, memory, 1, 0], BAD_DESCRIPTOR),
        row("wait for descriptors the old way", libc::SYS_poll, &[memory, 0, 0], 0),
        row("open the old way", libc::SYS_open, &[path, 0], libc::EACCES),
        row("learn of a file the old way", libc::SYS_stat, &[path, out], libc::EACCES),
        row("learn of a link the old way", libc::SYS_lstat, &[path, out], libc::EACCES),
        row("ask whether it may the old way", libc::SYS_access, &[path, 0], libc::EACCES),
        row("read a link the old way", libc::SYS_readlink, &[path, out, 8], libc::EACCES),
    ]
}

/// Calls that every process makes, and that are not attempts: those of a thread that is made (by
/// `clone`), gets a signal and ends, and of the end of the child.
const LIVED: [i64; 5] = [
    libc::SYS_clone,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
];

fn answered() -> impl Iterator<Item = (i64, i32)> {
    let each = |(calls, error): &'static (&[i64], i32)| calls.iter().map(|call| (*call, *error));
    ANSWERED.iter().flat_map(each)
}

/// How long a child may take. A call that should have been refused may block for ever.
const CHILD_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs one of the tests below in a process of its own, which confines itself.
#[track_caller]
fn in_a_child(test: &str) {
    let said = tempfile::NamedTempFile::new().expect("a file");
    let module = module_path!().split_once("::").expect("a path").1;
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("{module}::{test}"))
        .env(CHILD, "1")
        .stdout(said.reopen().expect("a file"))
        .stderr(said.reopen().expect("a file"))
        .spawn()
        .expect("the child starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (ended, end) = mpsc::channel();
    let waits = std::thread::spawn(move || {
        let status = child.wait().expect("our own child");
        // The test may have given up.
        let _ = ended.send(status);
    });
    let status = end.recv_timeout(CHILD_TIMEOUT).ok();
    if status.is_none() {
        kill(pid, Signal::SIGKILL).expect("our own child");
    }
    waits.join().expect("the thread that waits");
    let said = std::fs::read_to_string(said.path()).expect("text");
    let sound = status.is_some_and(|status| status.success()) && said.contains(DONE);
    assert!(sound, "{status:?}\n{said}");
}

fn say(to: &mut impl std::io::Write, line: &str) {
    writeln!(to, "{line}").expect("it is read");
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Gives up root, if the test has it, for an unprivileged user.
fn become_nobody() {
    let nobody = Uid::effective().is_root().then(|| {
        let user = User::from_name("nobody").expect("a list of users");
        let user = user.expect("it is everywhere");
        Account {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }
    });
    drop_privilege(nobody).expect("no privilege is needed to give it up");
}

#[test]
fn c5_every_call_on_a_list_has_a_row_and_every_condition_two() {
    let (journal, _other) = UnixDatagram::pair().expect("sockets");
    let scene = Scene::new(&journal);
    let rows = rows(&scene);
    let calls = |passes: bool| -> BTreeSet<i64> {
        let refusals = [REFUSED, libc::EACCES, libc::ENOSYS];
        let rows = rows
            .iter()
            .filter(|row| refusals.contains(&row.error) != passes);
        rows.map(|row| row.call).collect()
    };
    let (passed, refused) = (calls(true), calls(false));
    for call in ALLOWED.iter().chain(CONDITIONAL) {
        let shown = passed.contains(call) || LIVED.contains(call);
        assert!(shown, "no row shows what {call} is for");
    }
    for call in CONDITIONAL {
        assert!(
            refused.contains(call),
            "no row shows what {call} is not for"
        );
    }
    for (call, error) in answered() {
        let row = rows.iter().find(|row| row.call == call);
        assert_eq!(row.map(|row| row.error), Some(error), "call {call}");
    }
    let listed: BTreeSet<i64> = ALLOWED.iter().chain(CONDITIONAL).copied().collect();
    let extra: Vec<&i64> = passed.difference(&listed).collect();
    assert!(extra.is_empty(), "on no list, and said to pass: {extra:?}");
}

#[test]
fn c5_a_confined_process_does_what_its_table_says_and_nothing_else() {
    in_a_child("confined_child");
}

/// The child of the test above.
#[test]
fn confined_child() {
    if !is_child() {
        return;
    }
    let (journal, _reader) = UnixDatagram::pair().expect("sockets");
    let scene = Scene::new(&journal);
    let rows = rows(&scene);
    become_nobody();
    let confined =
        confine(Confinement::Try, Some(journal.as_raw_fd()), RELEASE).expect("it may fail");
    let seccomp = confined.missing.iter().find(|why| why.contains("seccomp"));
    assert_eq!(seccomp, None);
    let mut wrong = Vec::new();
    let mut note = |what: String| {
        say(&mut std::io::stdout(), &what);
        wrong.push(what);
    };
    for Row {
        what,
        call,
        arguments,
        error,
    } in &rows
    {
        let outcome = try_call(*call, *arguments).err().unwrap_or_default();
        if outcome != *error {
            note(format!("{what}: error {outcome} and not {error}"));
        }
    }
    let known: BTreeSet<i64> = ALLOWED
        .iter()
        .chain(CONDITIONAL)
        .copied()
        .chain(answered().map(|(call, _)| call))
        .collect();
    let others = (0..NUMBERS).filter(|call| !known.contains(call) && !PROBES.contains(call));
    for call in others.chain((0..NUMBERS).map(|call| call | X32)) {
        let outcome = try_call(call, [-1; 6]);
        if outcome != Err(REFUSED) {
            note(format!("system call {call}: {outcome:?}"));
        }
    }
    // Calls that every process makes.
    let sum = std::thread::spawn(|| vec![1_u64; 1 << 20].iter().sum::<u64>());
    assert_eq!(sum.join().expect("a thread"), 1 << 20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    say(
        &mut std::io::stdout(),
        &format!("{DONE}: {} rows", rows.len()),
    );
}

/// The version of Landlock that this kernel has; 0 for none.
fn landlock_version() -> i64 {
    const LANDLOCK_CREATE_RULESET_VERSION: i64 = 1;
    let arguments = [0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0];
    try_call(libc::SYS_landlock_create_ruleset, arguments).unwrap_or_default()
}

#[test]
fn c5_landlock_keeps_ports_signals_and_unix_sockets_away_where_the_kernel_can() {
    if landlock_version() < 6 {
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test");
        let why = format!("cannot run here: {test}: needs Landlock with scopes (Linux 6.12)");
        say(&mut std::io::stderr(), &why);
        return;
    }
    in_a_child("landlocked_child");
}

/// The child of the test above: without seccomp, to test Landlock alone.
#[test]
fn landlocked_child() {
    if !is_child() {
        return;
    }
    let name = SocketAddr::from_abstract_name(std::process::id().to_string()).expect("a name");
    let inside = UnixDatagram::unbound().expect("a socket");
    let _outside = UnixDatagram::bind_addr(&name).expect("a socket");
    let parent = i64::from(nix::unistd::getppid().as_raw());
    let attempts = || {
        [
            TcpListener::bind("127.0.0.1:0").err(),
            inside.send_to_addr(b"x", &name).err(),
            try_call(libc::SYS_kill, [parent, 0, 0, 0, 0, 0])
                .err()
                .map(std::io::Error::from_raw_os_error),
        ]
        .map(|error| error.and_then(|error| error.raw_os_error()))
    };
    assert_eq!(attempts(), [None; 3], "all of it works before");
    nix::sys::prctl::set_no_new_privs().expect("always allowed");
    restrict_reach().expect("a kernel with Landlock");
    let refused = [libc::EACCES, libc::EPERM, libc::EPERM].map(Some);
    assert_eq!(attempts(), refused);
    say(&mut std::io::stdout(), DONE);
}
