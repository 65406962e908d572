//! The system calls of a confined worker: those that a network server needs that starts no
//! programs, opens no files and does not listen. Every other call fails.
//!
//! A call that is added to a list gives a power to an attacker who has taken over the worker. The
//! table in `tests` has a row for each.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use anyhow::Context as _;
use codex_network_engine::PIPE_BYTES;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The facts that the filters depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterFacts {
    /// The descriptor of the socket to the journal.
    pub(super) journal: Option<RawFd>,
    /// The number with which the process may undo its death with the parent.
    pub(super) release: u64,
}

/// Puts the filters in force: a call on no list fails with `EPERM`.
pub(super) fn restrict(given: FilterFacts) -> anyhow::Result<()> {
    // The last filter is the one that refuses further filters. If two filters give an error, that
    // of the newer one counts, so it permits the calls that the others answer.
    for (calls, error) in ANSWERED {
        let answered = calls.iter().map(|call| (*call, Vec::new())).collect();
        apply(answered, SeccompAction::Allow, refuse(*error)?)?;
    }
    apply(allowed(given)?, refuse(libc::EPERM)?, SeccompAction::Allow)
}

fn refuse(error: i32) -> anyhow::Result<SeccompAction> {
    Ok(SeccompAction::Errno(u32::try_from(error)?))
}

/// The calls that the last filter permits.
fn allowed(given: FilterFacts) -> anyhow::Result<Rules> {
    let answered = ANSWERED.iter().flat_map(|(calls, _)| *calls);
    let without_condition = ALLOWED.iter().chain(answered);
    let mut rules: Rules = without_condition.map(|call| (*call, Vec::new())).collect();
    for call in CONDITIONAL {
        rules.insert(*call, conditions(*call, given)?);
    }
    Ok(rules)
}

/// The rules of a conditional call, one of which must match.
fn conditions(call: i64, given: FilterFacts) -> anyhow::Result<Vec<SeccompRule>> {
    let FilterFacts { journal, release } = given;
    match call {
        // Threads, but no processes and no new namespaces.
        libc::SYS_clone => all_of(vec![
            masked(0, NEW_NAMESPACES, 0)?,
            masked(0, flag(libc::CLONE_THREAD), flag(libc::CLONE_THREAD))?,
        ]),
        // TCP and UDP. The worker was given the unix sockets that it has, so that it cannot reach
        // the services of the user that it runs as.
        libc::SYS_socket => {
            let mut rules = Vec::new();
            for family in [libc::AF_INET, libc::AF_INET6] {
                for (kind, protocol) in [
                    (libc::SOCK_STREAM, libc::IPPROTO_TCP),
                    (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
                ] {
                    for protocol in [0, protocol] {
                        rules.push(SeccompRule::new(vec![
                            equal(0, family)?,
                            masked(1, SOCKET_KIND, flag(kind))?,
                            equal(2, protocol)?,
                        ])?);
                    }
                }
            }
            Ok(rules)
        }
        // The runtime uses one to wake itself. An unconnected datagram socket, or one of a pair,
        // reaches every datagram service of the machine.
        libc::SYS_socketpair => all_of(vec![
            equal(0, libc::AF_UNIX)?,
            masked(1, SOCKET_KIND, flag(libc::SOCK_STREAM))?,
        ]),
        // These calls are for internet sockets. The journal's socket, and standard error, which may
        // be a socket, are only written to: neither they nor a copy of them may get another
        // destination.
        libc::SYS_bind | libc::SYS_connect | libc::SYS_sendto => all_of(other_than_log(journal)?),
        libc::SYS_fcntl => {
            let plain = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL];
            let mut rules = one_of(1, &plain)?;
            // `O_ASYNC` is refused, because it makes the kernel send signals.
            let quiet = masked(2, flag(libc::O_ASYNC), 0)?;
            rules.push(SeccompRule::new(vec![equal(1, libc::F_SETFL)?, quiet])?);
            let mut copy = other_than_log(journal)?;
            copy.push(equal(1, libc::F_DUPFD_CLOEXEC)?);
            rules.push(SeccompRule::new(copy)?);
            // Tunnels use pipes of this size. Pages of pipes are memory that no other limit counts.
            let size = i32::try_from(PIPE_BYTES)?;
            let sized = vec![equal(1, libc::F_SETPIPE_SZ)?, equal(2, size)?];
            rules.push(SeccompRule::new(sized)?);
            Ok(rules)
        }
        // Not the requests that make the kernel send signals (FIOASYNC, FIOSETOWN) or put input
        // into a terminal (TIOCSTI), which standard error may be.
        libc::SYS_ioctl => {
            let requests = [i32::try_from(libc::FIONBIO)?, i32::try_from(libc::FIOCLEX)?];
            one_of(1, &requests)
        }
        // No new executable memory: only the program's own code runs.
        libc::SYS_mmap | libc::SYS_mprotect => all_of(vec![masked(2, flag(libc::PROT_EXEC), 0)?]),
        // Names of threads and, from glibc 2.39 on, of memory. Every other option changes the
        // process's permissions. One exception: the worker may clear its parent-death signal, but
        // only with the number that the monitor sends with a handover (`ToWorker::HandOver`).
        libc::SYS_prctl => {
            let mut rules = one_of(0, &[libc::PR_SET_NAME, libc::PR_SET_VMA])?;
            rules.push(SeccompRule::new(vec![
                equal(0, libc::PR_SET_PDEATHSIG)?,
                masked(1, u64::MAX, 0)?,
                masked(2, u64::MAX, release)?,
            ])?);
            Ok(rules)
        }
        // `abort` uses it. Other processes of this user must not be reached.
        libc::SYS_tgkill => all_of(vec![equal(0, own_pid()?)?]),
        // Limits of this process may be read, not set.
        libc::SYS_prlimit64 => {
            let sets_none = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
            let of = |process| SeccompRule::new(vec![equal(0, process)?, sets_none.clone()]);
            Ok(vec![of(0)?, of(own_pid()?)?])
        }
        other => anyhow::bail!("system call {other} has no conditions"),
    }
}

fn own_pid() -> anyhow::Result<i32> {
    Ok(i32::try_from(std::process::id())?)
}

fn all_of(conditions: Vec<SeccompCondition>) -> anyhow::Result<Vec<SeccompRule>> {
    Ok(vec![SeccompRule::new(conditions)?])
}

/// A rule for each value that an argument of 32 bits may have.
fn one_of(argument: u8, values: &[i32]) -> anyhow::Result<Vec<SeccompRule>> {
    let rule = |value: &i32| -> anyhow::Result<SeccompRule> {
        Ok(SeccompRule::new(vec![equal(argument, *value)?])?)
    };
    values.iter().map(rule).collect()
}

/// Matches when an argument of 32 bits has this value.
fn equal(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    let value = value.cast_unsigned().into();
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// Matches when these bits of an argument have these values.
fn masked(
    argument: u8,
    bits: u64,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(bits);
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
}

fn flag(flag: i32) -> u64 {
    flag.cast_unsigned().into()
}

/// Matches when the first argument is not a descriptor that the log is written to.
fn other_than_log(
    journal: Option<RawFd>,
) -> Result<Vec<SeccompCondition>, seccompiler::BackendError> {
    let log = [Some(libc::STDERR_FILENO), journal];
    let other = |descriptor: RawFd| {
        let value = descriptor.cast_unsigned().into();
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
    };
    log.into_iter().flatten().map(other).collect()
}

/// Puts a filter in force, and makes the kernel log its refusals (audit records of type SECCOMP).
fn apply(rules: Rules, otherwise: SeccompAction, matching: SeccompAction) -> anyhow::Result<()> {
    let arch = std::env::consts::ARCH
        .try_into()
        .context("seccomp does not know this architecture")?;
    let mut program: BpfProgram =
        SeccompFilter::new(rules, otherwise, matching, arch)?.try_into()?;
    install(&program)?;
    // The kernel has its copy. The number for the release is overwritten here, as in the other places
    // that this process controls.
    for instruction in &mut program {
        instruction.k = 0;
    }
    std::hint::black_box(&program);
    Ok(())
}

#[expect(unsafe_code, reason = "seccompiler cannot request logging")]
fn install(program: &BpfProgram) -> anyhow::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len())?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: seccompiler's instructions have the layout of the kernel's (`repr(C)`, the same four
    // fields); both pointers are valid for the whole call, which only reads them.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            &raw const filter,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error()).context("the kernel does not take the filter")
    }
}

/// Makes the kernel send no signal when the parent of this thread's process ends. The filter permits
/// it only with the number that the process was confined with.
#[expect(unsafe_code, reason = "nix passes no further argument")]
pub(super) fn set_no_death_signal(release: u64) -> std::io::Result<()> {
    // SAFETY: the call touches no memory. The kernel ignores the third argument, which is for the
    // filter.
    let outcome = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0_u64, release, 0_u64, 0_u64) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The bits of a socket's type without its flags (`SOCK_TYPE_MASK` in the kernel).
const SOCKET_KIND: u64 = 0xf;

/// Calls without a condition.
#[rustfmt::skip]
pub(super) const ALLOWED: &[i64] = &[
    // Bytes in and out. Not `sendmsg`, which passes descriptors on.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_splice,
    libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_close, libc::SYS_pipe2, libc::SYS_lseek,
    // Sockets. Not `listen`: the monitor hands the listeners over.
    libc::SYS_accept4, libc::SYS_shutdown, libc::SYS_getsockname, libc::SYS_getpeername,
    libc::SYS_setsockopt, libc::SYS_getsockopt,
    // Waiting.
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_ppoll, libc::SYS_eventfd2,
    libc::SYS_futex, libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime,
    libc::SYS_gettimeofday, libc::SYS_restart_syscall, libc::SYS_sched_yield,
    // Memory.
    libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_brk, libc::SYS_membarrier,
    // Threads and signals.
    libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack, libc::SYS_sched_getaffinity,
    // The process's identity, and random numbers.
    libc::SYS_geteuid, libc::SYS_getrandom,
    #[cfg(target_arch = "x86_64")] libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")] libc::SYS_poll,
];

/// Calls that are permitted with some arguments.
pub(super) const CONDITIONAL: &[i64] = &[
    libc::SYS_bind,
    libc::SYS_clone,
    libc::SYS_connect,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sendto,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_tgkill,
];

/// Calls that are refused with an error of their own, which libraries can handle.
#[rustfmt::skip]
pub(super) const ANSWERED: &[(&[i64], i32)] = &[
    // glibc starts threads with clone3, whose flags a filter cannot see. When it gets "no such
    // call" it uses clone.
    (&[libc::SYS_clone3], libc::ENOSYS),
    // Files. Optional lookups (processors, control groups, time zones) have a default.
    (
        &[
            libc::SYS_openat, libc::SYS_openat2, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_readlinkat,
            libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_fstat, libc::SYS_statfs, libc::SYS_getcwd,
            #[cfg(target_arch = "x86_64")] libc::SYS_open,
            #[cfg(target_arch = "x86_64")] libc::SYS_stat,
            #[cfg(target_arch = "x86_64")] libc::SYS_lstat,
            #[cfg(target_arch = "x86_64")] libc::SYS_access,
            #[cfg(target_arch = "x86_64")] libc::SYS_readlink,
        ],
        libc::EACCES,
    ),
];
