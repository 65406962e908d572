//! System calls that the filter refuses.

use e2e::machine;

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
