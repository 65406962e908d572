//! System calls that the filter refuses.

use e2e::machine;
use nix::libc;

use crate::fixture::{User, users};

/// The error of a refused call.
const NOT_PERMITTED: &str = "Operation not permitted";
const NO_FAMILY: &str = "Address family not supported by protocol";
const NO_PROTOCOL: &str = "Protocol not supported";
const ABSENT: &str = "Function not implemented";

#[test]
fn j6_only_internet_sockets_and_routes_exist() {
    let families = [
        ("17 3 0", NO_FAMILY, "AF_PACKET"),
        ("40 1 0", NO_FAMILY, "AF_VSOCK"),
        ("38 5 0", NO_FAMILY, "AF_ALG"),
        ("31 3 1", NO_FAMILY, "AF_BLUETOOTH"),
        ("44 3 0", NO_FAMILY, "AF_XDP"),
        ("16 3 16", NO_PROTOCOL, "generic netlink"),
        ("16 3 9", NO_PROTOCOL, "audit"),
        ("16 3 15", NO_PROTOCOL, "device events"),
        ("16 3 12", NO_PROTOCOL, "netfilter"),
    ];
    for user in users() {
        for (arguments, error, _) in families {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            for attempt in ["family", "wide-family"] {
                user.attempt(&[&[attempt], arguments.as_slice()].concat())
                    .is_refused(error);
            }
        }
        for permitted in ["2 1 0", "2 2 0", "10 1 0", "16 3 0"] {
            let arguments: Vec<&str> = permitted.split(' ').collect();
            user.attempt(&[&["family"], arguments.as_slice()].concat())
                .is_through();
        }
        for raw in ["raw", "raw6"] {
            user.attempt(&[raw]).is_refused(NOT_PERMITTED);
        }
        if user == User::Own && machine::is_root() {
            for attempt in [&["raw"] as &[&str], &["family", "17", "3", "0"]] {
                user.attempt_outside(attempt).is_through();
            }
        }
    }
}

/// The kernel refuses this type before it looks for the family or the protocol, whichever it has. The filter's
/// error comes first.
#[test]
fn j6_the_filter_refuses_families_whether_or_not_the_kernel_has_them() {
    const NO_TYPE: &str = "15";
    let others = (0..64).filter(|family| ![1, 2, 10, 16].contains(family));
    let others = others.map(|family| (family, 0, NO_FAMILY));
    let of_netlink = (1..32).map(|protocol| (16, protocol, NO_PROTOCOL));
    let refused: Vec<_> = others.chain(of_netlink).collect();
    for user in users() {
        let attempts: Vec<Vec<String>> = refused
            .iter()
            .map(|(family, protocol, _)| {
                let numbers = [family.to_string(), NO_TYPE.into(), protocol.to_string()];
                numbers.into()
            })
            .collect();
        let inside = user.attempts_in_one_jail("family", &attempts);
        for ((family, protocol, error), line) in refused.iter().zip(&inside) {
            let wanted = format!("refused: family: {error}");
            assert_eq!(line, &wanted, "family {family}, protocol {protocol}");
        }
        assert_eq!(inside.len(), refused.len());
        for outside in [["40", NO_TYPE, "0"], ["16", NO_TYPE, "16"]] {
            user.attempt_outside(&[&["family"], outside.as_slice()].concat())
                .is_refused("Invalid argument");
        }
    }
}

/// The arguments are invalid, and the kernel finds that before it asks for a capability. So the error in the jail
/// is the filter's. Calls that need a capability first are refused for the lack of it as well.
#[test]
fn j6_the_filter_refuses_calls_before_the_kernel_looks_at_their_arguments() {
    let (nowhere, none) = ("1", "-1");
    let new_thread = |flag: i32| (flag | libc::CLONE_THREAD).to_string();
    let with_unknown = |flag: i32| (i64::from(flag.cast_unsigned()) | 1).to_string();
    let mut calls: Vec<(i64, Vec<String>)> = [
        (libc::SYS_bpf, vec!["9999", "0", "0x100000"]),
        (libc::SYS_userfaultfd, vec!["0x10001"]),
        (
            libc::SYS_perf_event_open,
            vec![nowhere, "0", none, none, "0x10000"],
        ),
        (libc::SYS_settimeofday, vec![nowhere, "0"]),
        (libc::SYS_clock_settime, vec!["1", nowhere]),
        (libc::SYS_quotactl, vec!["0xff"]),
        (libc::SYS_swapon, vec![nowhere, "0x1000000"]),
        (libc::SYS_setns, vec![none, "0"]),
        (libc::SYS_mount, vec!["0", "0", nowhere, "0", "0"]),
        (libc::SYS_umount2, vec!["0", "0x1000"]),
        (libc::SYS_chroot, vec![nowhere]),
        (libc::SYS_open_tree, vec![none, nowhere, "0x10000000"]),
        (libc::SYS_fsconfig, vec![none]),
        (
            libc::SYS_mount_setattr,
            vec![none, nowhere, "0x10000000", nowhere, "32"],
        ),
    ]
    .map(|(call, arguments)| (call, arguments.into_iter().map(str::to_owned).collect()))
    .into();
    for flag in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ] {
        calls.push((libc::SYS_clone, vec![new_thread(flag)]));
        calls.push((libc::SYS_unshare, vec![with_unknown(flag)]));
    }
    let attempts: Vec<Vec<String>> = calls
        .into_iter()
        .map(|(call, arguments)| [vec![call.to_string()], arguments].concat())
        .collect();
    for user in users() {
        let inside = user.attempts_in_one_jail("call", &attempts);
        assert_eq!(inside.len(), attempts.len());
        for (attempt, line) in attempts.iter().zip(&inside) {
            assert_eq!(
                line,
                &format!("refused: call: {NOT_PERMITTED}"),
                "{attempt:?}"
            );
            let attempt: Vec<&str> = attempt.iter().map(String::as_str).collect();
            let outside = user.attempt_outside(&[&["call"], attempt.as_slice()].concat());
            let outside = outside.stdout();
            assert!(outside.starts_with("refused: "), "{attempt:?}: {outside}");
            assert!(!outside.contains(NOT_PERMITTED), "{attempt:?}: {outside}");
        }
    }
}

#[test]
fn j6_the_filter_refuses_what_namespaces_leave_open() {
    for user in users() {
        for (attempt, error) in [
            ("io-uring", ABSENT),
            ("bpf", NOT_PERMITTED),
            ("keyctl", NOT_PERMITTED),
            ("add-key", NOT_PERMITTED),
            ("request-key", NOT_PERMITTED),
            ("userfaultfd", NOT_PERMITTED),
            ("newer-call", ABSENT),
            ("mount", NOT_PERMITTED),
            ("chroot", NOT_PERMITTED),
        ] {
            user.attempt(&[attempt]).is_refused(error);
        }
        // Others need rights or kernels that not every machine has.
        for attempt in ["keyctl", "add-key", "request-key"] {
            user.attempt_outside(&[attempt]).is_through();
        }
        user.attempt(&["starts-thread"]).is_through();
    }
}

#[test]
fn j6_no_new_namespace_can_be_made_or_entered() {
    // Mounts, cgroups, host names, IPC, users, processes, network; and time, which `clone` lacks.
    let flags = [
        "20000", "2000000", "4000000", "8000000", "10000000", "20000000", "40000000",
    ];
    for user in users() {
        for flag in flags {
            user.attempt(&["unshare", flag]).is_refused(NOT_PERMITTED);
            user.attempt(&["clone", flag]).is_refused(NOT_PERMITTED);
            user.attempt(&["clone3", flag]).is_refused(ABSENT);
        }
        user.attempt(&["unshare", "80"]).is_refused(NOT_PERMITTED);
        for call in ["unshare", "clone", "clone3"] {
            user.attempt_outside(&[call, "10000000"]).is_through();
        }
        user.attempt(&["unshare", "400"]).is_through();
        for namespace in ["net", "user", "pid"] {
            let path = format!("/proc/self/ns/{namespace}");
            user.attempt(&["setns", &path]).is_refused(NOT_PERMITTED);
        }
    }
}

/// A call of another architecture ends the program: SIGSYS, 31.
#[cfg(target_arch = "x86_64")]
#[test]
fn j6_calls_of_another_architecture_are_refused() {
    for user in users() {
        for attempt in [["call32", "20", "0", "0"], ["call32", "359", "1", "1"]] {
            let ran = user.attempt(&attempt);
            assert_eq!(ran.0.status.code(), Some(128 + 31), "{}", ran.stdout());
        }
        for attempt in [["call-x32", "39", "0", "0"], ["call-x32", "41", "1", "1"]] {
            user.attempt(&attempt).is_refused(ABSENT);
        }
    }
}

#[test]
fn j6_no_program_puts_input_into_the_terminal() {
    for user in users() {
        for attempt in ["terminal-input", "wide-terminal-input", "console-paste"] {
            user.attempt_outside(&[attempt]).is_through();
            user.attempt(&[attempt]).is_refused(NOT_PERMITTED);
        }
    }
}
