//! The filter of system calls. It refuses a list and permits the rest.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter, sock_filter,
};

use super::UnixSockets;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Built<T> = Result<T, BackendError>;

/// The last system call that these rules have considered (`listns` of Linux 6.19). Programs handle a
/// kernel without newer ones. The calls of x32 have greater numbers.
const LAST_CALL: u32 = 470;
/// `CLONE_NEWTIME`, which the library lacks. For `clone` this bit belongs to the signal.
const CLONE_NEWTIME: i32 = 0x80;
/// `open_tree_attr` of Linux 6.15, which the library lacks.
const OPEN_TREE_ATTR: i64 = 467;
/// The bits of a socket's type without its flags (`SOCK_TYPE_MASK` in the kernel).
const SOCKET_KIND: u64 = 0xf;

/// Puts the filter in force.
pub(super) fn apply(sockets: UnixSockets) -> io::Result<()> {
    apply_filter(&known_calls()).map_err(io::Error::other)?;
    for (error, rules) in refusals(sockets).map_err(io::Error::other)? {
        let program = compiled(rules, error).map_err(io::Error::other)?;
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Calls of another architecture end the process. Each program of `seccompiler` begins with that check.
fn compiled(rules: Rules, error: i32) -> Built<BpfProgram> {
    let refusal = SeccompAction::Errno(error.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, arch)?.try_into()
}

/// A program that refuses unknown calls with `ENOSYS`. `seccompiler` has no rule for a range.
fn known_calls() -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt,
        jf,
        k,
    };
    let refusal = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    vec![
        // The number of the call is the first field of `struct seccomp_data`.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, LAST_CALL),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, refusal),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// The refused calls, by the error that programs handle best.
fn refusals(sockets: UnixSockets) -> Built<Vec<(i32, Rules)>> {
    let mut refusals = vec![
        (libc::ENOSYS, whole(NOT_THERE)),
        (libc::EPERM, forbidden()?),
        (libc::EAFNOSUPPORT, other_families()?),
        (libc::EPROTONOSUPPORT, other_netlink()?),
    ];
    if sockets != UnixSockets::All {
        refusals.push((libc::EACCES, unix_sockets(sockets)?));
    }
    Ok(refusals)
}

fn whole(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Calls that programs handle as absent. libcs start threads with `clone3`, whose flags a filter cannot
/// see; without it they use `clone`. `io_uring` makes sockets and connects without a system call for each.
const NOT_THERE: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Calls that are refused whatever their arguments are. Most of them need capabilities that the command
/// lacks as well. `ptrace`, `process_vm_readv` and `kcmp` are not among them: they reach only processes of
/// the jail, and debuggers need them.
const FORBIDDEN: &[i64] = &[
    // The kernel asks programs outside the jail for keys, over the machine's network.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Programs and pages of the kernel's.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_perf_event_open,
    // The machine as a whole: its log, name, clock, disks and power.
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_vhangup,
    // Descriptors of another process.
    libc::SYS_pidfd_getfd,
    // Another namespace, or another root.
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
];

/// Forbidden calls, and calls that are forbidden with some arguments.
fn forbidden() -> Built<Rules> {
    let mut rules = whole(FORBIDDEN);
    // One rule for each flag: any of them suffices.
    let set = |flag: i32| -> Built<SeccompRule> {
        let flag = u64::from(flag.cast_unsigned());
        SeccompRule::new(vec![SeccompCondition::new(
            0,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(flag),
            flag,
        )?])
    };
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let of_clone = namespaces.map(set).into_iter();
    rules.insert(libc::SYS_clone, of_clone.collect::<Built<_>>()?);
    let of_unshare = namespaces.into_iter().chain([CLONE_NEWTIME]).map(set);
    rules.insert(libc::SYS_unshare, of_unshare.collect::<Built<_>>()?);
    // They put input into the terminal, which the shell outside the jail would read.
    let requests = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| rule(vec![equal(1, request)?]));
    rules.insert(libc::SYS_ioctl, requests.into_iter().collect::<Built<_>>()?);
    // The kernel ends process 1 of the jail at its limit of time, and it needs descriptors. It has the
    // program's user, and its threads have numbers of their own.
    let has_new_limits = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    let of_another = rule(vec![different(0, 0)?, has_new_limits]);
    rules.insert(libc::SYS_prlimit64, vec![of_another?]);
    Ok(rules)
}

/// Sockets of other families than the internet's, netlink and unix. Some reach the machine's devices
/// (`AF_PACKET`, `AF_VSOCK`, `AF_BLUETOOTH`), some the kernel alone (`AF_ALG`).
fn other_families() -> Built<Rules> {
    let families = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let others = families.map(|family| different(0, number(family)));
    let others = others.into_iter().collect::<Built<_>>()?;
    let pairs = rule(vec![different(0, number(libc::AF_UNIX))?])?;
    Ok(BTreeMap::from([
        (libc::SYS_socket, vec![rule(others)?]),
        (libc::SYS_socketpair, vec![pairs]),
    ]))
}

/// Of netlink, only the interfaces and routes of the jail's own network.
fn other_netlink() -> Built<Rules> {
    let netlink = rule(vec![
        equal(0, number(libc::AF_NETLINK))?,
        different(2, number(libc::NETLINK_ROUTE))?,
    ])?;
    Ok(BTreeMap::from([(libc::SYS_socket, vec![netlink])]))
}

/// Unix sockets lead to processes outside the jail, unless a supervisor connects them. A pair of streams
/// leads only to its other end. A datagram socket, even of a pair, sends to any path without `connect`.
fn unix_sockets(sockets: UnixSockets) -> Built<Rules> {
    let all = vec![rule(vec![equal(0, number(libc::AF_UNIX))?])?];
    let connected = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET].map(number);
    let others = (0..=SOCKET_KIND).filter(|kind| !connected.contains(kind));
    let others = others.map(|kind| {
        let kind = SeccompCondition::new(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(SOCKET_KIND),
            kind,
        )?;
        rule(vec![equal(0, number(libc::AF_UNIX))?, kind])
    });
    let others = others.collect::<Built<Vec<_>>>()?;
    let single = if sockets == UnixSockets::Supervised {
        others.clone()
    } else {
        all
    };
    Ok(BTreeMap::from([
        (libc::SYS_socket, single),
        (libc::SYS_socketpair, others),
    ]))
}

fn number(value: i32) -> u64 {
    value.cast_unsigned().into()
}

fn rule(conditions: Vec<SeccompCondition>) -> Built<SeccompRule> {
    SeccompRule::new(conditions)
}

/// Matches when an argument of 32 bits has this value. The kernel ignores its upper half, and so does
/// the filter.
fn equal(argument: u8, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn different(argument: u8, value: u64) -> Built<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that lacks them answers in the same way, so a program in a jail could not tell.
    #[test]
    fn j6_calls_newer_than_the_filter_do_not_exist() {
        let program = known_calls();
        let [load, compare, refusal, permission] = program.as_slice() else {
            panic!("{} instructions", program.len())
        };
        assert_eq!(load.k, 0, "the number of the call");
        let answer = |call: u32| {
            let skipped = if call > compare.k {
                compare.jt
            } else {
                compare.jf
            };
            [refusal, permission][usize::from(skipped)].k
        };
        let absent = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
        // Those of x32 have this bit.
        for call in [LAST_CALL + 1, 0x4000_0000, u32::MAX] {
            assert_eq!(answer(call), absent, "{call}");
        }
        for call in [0, LAST_CALL] {
            assert_eq!(answer(call), libc::SECCOMP_RET_ALLOW, "{call}");
        }
    }
}
