//! Linux: capabilities, `no_new_privs`, seccomp and Landlock.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetStatus,
};
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, getppid, setgroups};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

pub(super) fn die_with_the_parent() -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have ended before the kernel knew of our wish.
    if getppid().as_raw() == 1 && !started_by_init() {
        bail!("the monitor is gone");
    }
    Ok(())
}

/// In a container the monitor itself can be process 1.
fn started_by_init() -> bool {
    std::fs::read_link("/proc/1/exe").ok() == std::env::current_exe().ok()
}

pub(super) fn drop_groups(_own: Gid) -> anyhow::Result<()> {
    Ok(setgroups(&[])?)
}

/// Takes the capabilities out of reach that a set-user-id program could bring back. Only a process
/// that has them can, and only there does it matter.
pub(super) fn drop_capability_bounds() -> anyhow::Result<()> {
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        for capability in caps::read(None, caps::CapSet::Bounding)? {
            caps::drop(None, caps::CapSet::Bounding, capability)?;
        }
    }
    Ok(())
}

pub(super) fn lose_privileges_for_good() -> anyhow::Result<()> {
    prctl::set_no_new_privs().context("cannot set no_new_privs")?;
    for set in [
        caps::CapSet::Ambient,
        caps::CapSet::Inheritable,
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
    ] {
        caps::clear(None, set).with_context(|| format!("cannot clear the {set:?} capabilities"))?;
    }
    // Becoming another user has done it already; an ordinary user's worker has secrets too.
    prctl::set_dumpable(false).context("cannot turn core dumps off")?;
    // Changing user resets the wish to die with the parent.
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot tie the worker to its monitor")?;
    Ok(())
}

/// Confines as far as the kernel goes, and says what is missing.
pub(super) fn confine() -> (Option<&'static str>, Vec<String>) {
    let mut missing = Vec::new();
    let mut landlock = None;
    match restrict_files() {
        Ok(RulesetStatus::FullyEnforced) => landlock = Some("enforced"),
        Ok(RulesetStatus::PartiallyEnforced) => {
            landlock = Some("partly enforced");
            missing.push("this kernel's Landlock knows only some of the restrictions".to_owned());
        }
        Ok(RulesetStatus::NotEnforced) => missing.push("this kernel has no Landlock".to_owned()),
        Err(error) => missing.push(format!("Landlock failed: {error:#}")),
    }
    if let Err(error) = restrict_calls() {
        missing.push(format!("seccomp failed: {error:#}"));
    }
    (landlock, missing)
}

/// Nothing of the file system is there: what the worker needs of it was read by the loader.
fn restrict_files() -> anyhow::Result<RulesetStatus> {
    // The newest rights that the library knows, as far as the kernel does; the oldest are a must.
    let handled = AccessFs::from_all(ABI::V5);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)?
        .create()?;
    Ok(ruleset.restrict_self()?.ruleset)
}

/// Every system call that is not on the list fails with `EPERM`.
fn restrict_calls() -> anyhow::Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Threads, but no processes in namespaces of their own.
    let same_namespaces = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(NEW_NAMESPACES),
        0,
    )?;
    let is_a_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64),
        libc::CLONE_THREAD as u64,
    )?;
    rules.insert(
        libc::SYS_clone,
        vec![SeccompRule::new(vec![same_namespaces, is_a_thread])?],
    );
    // Sockets to the internet. What the worker has of unix sockets it was given, so that it cannot
    // reach the services of whoever started it.
    let families = [libc::AF_INET, libc::AF_INET6].map(|family| u64::from(family.cast_unsigned()));
    rules.insert(libc::SYS_socket, argument_is_one_of(0, &families)?);
    // Not those that put input into a terminal (TIOCSTI), which standard error may be.
    let requests = [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS];
    rules.insert(libc::SYS_ioctl, argument_is_one_of(1, &requests)?);
    // Names of threads and, from glibc 2.39 on, of memory; every other option changes what a process
    // may do.
    let names =
        [libc::PR_SET_NAME, libc::PR_SET_VMA].map(|option| u64::from(option.cast_unsigned()));
    rules.insert(libc::SYS_prctl, argument_is_one_of(0, &names)?);
    // How `abort` ends us; the other processes of this user are none of ours.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, argument_is_one_of(0, &[own])?);
    // Limits are asked for, our own, and not set.
    let of_ours =
        |process| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, process);
    let sets_none = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(
        libc::SYS_prlimit64,
        vec![
            SeccompRule::new(vec![of_ours(0)?, sets_none.clone()])?,
            SeccompRule::new(vec![of_ours(own)?, sets_none])?,
        ],
    );
    let arch = std::env::consts::ARCH
        .try_into()
        .context("seccomp does not know this architecture")?;
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?;
    let program: BpfProgram = filter.try_into()?;
    // glibc starts threads with clone3, whose flags a filter cannot see; told that there is no
    // such call it uses clone. The other filter lets clone3 be, and of two the stricter counts.
    let no_such_call = SeccompAction::Errno(u32::try_from(libc::ENOSYS)?);
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let arch = std::env::consts::ARCH
        .try_into()
        .context("seccomp does not know this architecture")?;
    let first: BpfProgram =
        SeccompFilter::new(clone3, SeccompAction::Allow, no_such_call, arch)?.try_into()?;
    apply_and_log(&first)?;
    apply_and_log(&program)?;
    Ok(())
}

/// Puts a filter in force, and has the kernel log what it refuses (audit records of type SECCOMP).
#[expect(unsafe_code, reason = "seccompiler cannot ask for the log")]
fn apply_and_log(program: &BpfProgram) -> anyhow::Result<()> {
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

/// A rule for each value that an argument of 32 bits may have.
fn argument_is_one_of(argument: u8, values: &[u64]) -> anyhow::Result<Vec<SeccompRule>> {
    let rule = |value: &u64| -> anyhow::Result<SeccompRule> {
        let condition =
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    values.iter().map(rule).collect()
}

const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// What a network server that starts no programs and writes no files needs.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Bytes in and out.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_splice,
    libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg,
    libc::SYS_recvmmsg, libc::SYS_close, libc::SYS_close_range, libc::SYS_dup, libc::SYS_dup3, libc::SYS_pipe2,
    libc::SYS_fcntl, libc::SYS_lseek,
    // Sockets; `socket` itself has conditions, and so has `ioctl`.
    libc::SYS_socketpair, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_accept4,
    libc::SYS_accept, libc::SYS_shutdown, libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    // Waiting.
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_ppoll, libc::SYS_eventfd2,
    libc::SYS_futex, libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_clock_gettime,
    libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_restart_syscall, libc::SYS_sched_yield,
    // Memory.
    libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise, libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads and signals; `clone`, `tgkill` and `prctl` have conditions, `clone3` a filter of its own.
    libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address, libc::SYS_gettid, libc::SYS_getpid,
    libc::SYS_getppid, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack, libc::SYS_sched_getaffinity,
    // Who we are, and chance; `prlimit64` has conditions.
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getrandom,
    libc::SYS_uname, libc::SYS_getcwd,
    // Files: none, says Landlock; libraries ask all the same and get the error that they expect.
    libc::SYS_openat, libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx, libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")] libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")] libc::SYS_poll,
    #[cfg(target_arch = "x86_64")] libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")] libc::SYS_stat,
];
