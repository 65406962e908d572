//! Privileges: the monitor has those of its unit, the worker has none (`ARCHITECTURE.md`,
//! "Three roles, one program").

use std::fmt::Write as _;
use std::time::Duration;

use e2e::program::Program;
use nix::libc;

use crate::service::{SERVICE, Service};

/// `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID` and `CAP_SETPCAP`.
const GRANTED: &str = "00000000000001e0";
const NONE: &str = "0000000000000000";

#[test]
fn c5_the_worker_is_another_user_and_has_no_privilege() {
    let service = Service::new();
    service.start();
    let worker = service.wait_for_worker(None);
    service.wait_for_message("ready");
    let id = |what: &str| {
        let run = service.machine().run(["id", what, "codex-network-proxy"]);
        run.succeeded().stdout.trim().to_owned()
    };
    let (uid, gid) = (id("--user"), id("--group"));
    assert_ne!(uid, "0");
    assert_eq!(service.status(worker, "Uid"), [uid.as_str(); 4].join("\t"));
    assert_eq!(service.status(worker, "Gid"), [gid.as_str(); 4].join("\t"));
    assert_eq!(service.status(worker, "Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(service.status(worker, set), NONE, "{set}");
    }
    assert_eq!(service.status(worker, "NoNewPrivs"), "1");
    assert_eq!(service.status(worker, "Seccomp"), "2");
    // Three filters of its own in addition to those of the unit.
    let filters = |pid| -> u32 {
        let count = service.status(pid, "Seccomp_filters");
        count.parse().expect("a number")
    };
    assert_eq!(filters(worker), filters(service.monitor()) + 3);
    // The files in /proc of a process that cannot be dumped belong to root.
    let owner = service
        .machine()
        .run(["stat", "--format=%u", &format!("/proc/{worker}/environ")]);
    assert_eq!(owner.stdout.trim(), "0");
    for pid in [worker, service.monitor()] {
        let limits = service
            .process(pid, "limits")
            .expect("the process is there");
        let core = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"))
            .map(|line| line.split_whitespace().next());
        assert_eq!(core, Some(Some("0")), "no core file of {pid}");
    }
    let shown = service
        .machine()
        .run(["ps", "-o", "user:32=", "-p", &worker.to_string()]);
    assert_eq!(shown.stdout.trim(), "codex-network-proxy");
    let log = service.log();
    assert!(!log.contains("not fully confined"), "{log}");
}

#[test]
fn c5_the_monitor_has_the_capabilities_of_its_unit_and_no_more() {
    let service = Service::new();
    service.start();
    let monitor = service.monitor();
    assert_eq!(service.status(monitor, "Uid"), "0\t0\t0\t0");
    for (set, wanted) in [
        ("CapInh", NONE),
        ("CapPrm", GRANTED),
        ("CapEff", GRANTED),
        ("CapBnd", GRANTED),
        ("CapAmb", NONE),
    ] {
        assert_eq!(service.status(monitor, set), wanted, "{set}");
    }
    assert_eq!(service.status(monitor, "NoNewPrivs"), "1");
    // The unit's limit, or the highest that this machine permits.
    let files = |pid| -> u64 {
        let limits = service
            .process(pid, "limits")
            .expect("the process is there");
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let hard = line.and_then(|line| line.split_whitespace().nth(1));
        hard.and_then(|hard| hard.parse().ok()).expect("a number")
    };
    assert_eq!(files(monitor), files(1).min(524_288));
    // Programs and settings are there, and no user's files.
    let root = service.machine().path(&format!("/proc/{monitor}/root"));
    let mut names: Vec<String> = std::fs::read_dir(root)
        .expect("root looks everywhere")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    let expected = [
        "bin", "dev", "etc", "home", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp",
        "usr", "var",
    ];
    for name in names {
        assert!(expected.contains(&name.as_str()), "/{name}");
    }
}

/// A system call to make inside the worker.
struct Call {
    what: &'static str,
    number: libc::c_long,
    /// The arguments in C, each after a comma.
    arguments: String,
    /// The expected error number; 0 for success.
    error: i32,
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// The attempts of an attacker who has taken over the worker.
#[rustfmt::skip]
fn attempts(monitor: u32) -> Vec<Call> {
    let call = |what, number, arguments: &str, error| Call { what, number, arguments: arguments.to_owned(), error };
    let open = |what, path: &str, flags: i32, error| {
        let here = libc::AT_FDCWD;
        call(what, libc::SYS_openat, &format!(r#",{here}L,"{path}",{flags}L,0600L"#), error)
    };
    vec![
        // The method works: this is allowed.
        call("know its pid", libc::SYS_getpid, "", 0),
        // Files, even those that resolving needs, which come from the loader.
        open("read /etc/resolv.conf", "/etc/resolv.conf", 0, EACCES),
        open("read /etc/shadow", "/etc/shadow", 0, EACCES),
        open("read what all users may", "/etc/passwd", 0, EACCES),
        open("read the configuration", "/etc/codex-network-proxy/config.toml", 0, EACCES),
        open("read the monitor's memory", &format!("/proc/{monitor}/mem"), 0, EACCES),
        open("make a file", "/tmp/x", libc::O_CREAT | libc::O_WRONLY, EACCES),
        open("name a file alone", "/etc/passwd", libc::O_PATH, EACCES),
        call("learn of a file", libc::SYS_newfstatat, r#",-100L,"/etc/passwd",0L,0L"#, EACCES),
        // Sockets and signals; all of the rows are in daemon/src/worker/sandbox/linux/tests.rs.
        call("make a pair of datagram sockets", libc::SYS_socketpair, ",1L,2L,0L,0L", EPERM),
        call("pass descriptors on", libc::SYS_sendmsg, ",0L,0L,0L", EPERM),
        call("listen", libc::SYS_listen, ",0L,1L", EPERM),
        call("have signals sent", libc::SYS_fcntl, &format!(",0L,{}L,{monitor}L", libc::F_SETOWN), EPERM),
        call("map memory for instructions", libc::SYS_mmap, ",0L,4096L,5L,34L,-1L,0L", EPERM),
        // Programs and processes.
        call("start a program", libc::SYS_execve, r#","/bin/true",0L,0L"#, EPERM),
        call("start it by another call", libc::SYS_execveat, r#",-100L,"/bin/true",0L,0L,0L"#, EPERM),
        call("fork", libc::SYS_clone, &format!(",{}L,0L,0L,0L,0L", libc::SIGCHLD), EPERM),
        call("ptrace the monitor", libc::SYS_ptrace, &format!(",16L,{monitor}L,0L,0L"), EPERM),
        call("copy the monitor's memory", libc::SYS_process_vm_readv, &format!(",{monitor}L,0L,0L,0L,0L,0L"), EPERM),
        call("kill the monitor", libc::SYS_kill, &format!(",{monitor}L,9L"), EPERM),
        call("kill a thread of it", libc::SYS_tgkill, &format!(",{monitor}L,{monitor}L,9L"), EPERM),
        call("outlive the monitor", libc::SYS_prctl, &format!(",{}L,0L", libc::PR_SET_PDEATHSIG), EPERM),
        call("let itself be looked into", libc::SYS_prctl, &format!(",{}L,1L", libc::PR_SET_DUMPABLE), EPERM),
        call("look at its own limits", libc::SYS_prlimit64, ",0L,7L,0L,0L", 0),
        call("change them", libc::SYS_prlimit64, ",0L,7L,1L,0L", EPERM),
        call("look at the monitor's", libc::SYS_prlimit64, &format!(",{monitor}L,7L,0L,0L"), EPERM),
        // The kernel.
        call("become root", libc::SYS_setuid, ",0L", EPERM),
        call("make a user namespace", libc::SYS_unshare, &format!(",{}L", libc::CLONE_NEWUSER), EPERM),
        call("mount", libc::SYS_mount, r#","none","/","tmpfs",0L,0L"#, EPERM),
        call("load a module", libc::SYS_finit_module, r#",0L,"",0L"#, EPERM),
        call("add a key", libc::SYS_add_key, r#","user","a","b",1L,-2L"#, EPERM),
        call("load a BPF program", libc::SYS_bpf, ",5L,0L,0L", EPERM),
        call("open a packet socket", libc::SYS_socket, &format!(",{}L,3L,0L", libc::AF_PACKET), EPERM),
    ]
}

/// The worker with an attacker in control: a debugger makes calls from its main thread, so they get
/// the restrictions of this very process.
#[test]
fn c5_a_compromised_worker_can_do_nothing() {
    let service = Service::new();
    service.start();
    service.wait_for_message("ready");
    let (monitor, worker) = (service.monitor(), service.wait_for_worker(None));
    let attempts = attempts(monitor);
    let mut script = String::new();
    for Call {
        what,
        number,
        arguments,
        ..
    } in &attempts
    {
        writeln!(
            script,
            "echo {what}:\\ \n\
             print ((long(*)(long,...))syscall)({number}L{arguments})\n\
             print *((int*(*)(void))__errno_location)()"
        )
        .expect("a string takes text");
    }
    let results = debug(&service, worker, &script);
    assert_eq!(results.len(), 2 * attempts.len(), "{results:?}");
    for (Call { what, error, .. }, result) in attempts.iter().zip(results.chunks(2)) {
        match *error {
            0 => assert!(result[0] >= 0, "{what}: {result:?}"),
            error => assert_eq!(result, [-1, i64::from(error)], "{what}"),
        }
    }
    // The worker still serves.
    assert_eq!(service.get("http://blocked.test/").0, 403);
    assert_eq!(service.worker(), Some(worker));
    assert_eq!(service.monitor(), monitor);
}

/// The one unix datagram socket of a worker reaches only the journal.
#[test]
fn c5_the_workers_journal_socket_reaches_only_the_journal() {
    let service = Service::new();
    service.start();
    service.wait_for_message("ready");
    let worker = service.wait_for_worker(None);
    let descriptors =
        service
            .machine()
            .run(["ss", "--no-header", "--unix", "--all", "--processes"]);
    let descriptors = descriptors.succeeded();
    let own = format!("pid={worker},fd=");
    let datagrams: Vec<&str> = descriptors
        .stdout
        .lines()
        .filter(|line| line.starts_with("u_dgr"))
        .filter_map(|line| line.split_once(&own)?.1.split([')', ',']).next())
        .collect();
    let [journal] = datagrams[..] else {
        panic!("{datagrams:?} of {}", descriptors.stdout);
    };
    let address = r#""\001\000/dev/log""#;
    let script = format!(
        "print ((long(*)(long,...))syscall)({}L,{journal}L,\"x\",1L,0L,{address},10L)\n\
         print *((int*(*)(void))__errno_location)()\n\
         print ((long(*)(long,...))syscall)({}L,{journal}L)\n\
         print *((int*(*)(void))__errno_location)()\n",
        libc::SYS_sendto,
        libc::SYS_dup
    );
    let results = debug(&service, worker, &script);
    assert_eq!(results, [-1, EPERM.into(), -1, EPERM.into()]);
    // Entries still arrive there.
    assert_eq!(service.get("http://blocked.test/").0, 403);
    service.wait_for_message("deny http blocked.test:80");
}

/// The unit's own limits, for a program that it runs beside the monitor.
#[test]
fn l9_the_unit_forbids_broadcasts_and_other_files() {
    let service = Service::new();
    let probe = "/bin/bash -c '\
        ! ls /srv && ! ls /boot && ! touch /etc/x && ! touch /usr/x && \
        echo x >/dev/udp/127.0.0.1/9 && ! echo x >/dev/udp/224.0.0.1/9 && \
        touch /var/lib/codex-network-proxy/x /run/codex-network-proxy/x && echo as it should be'";
    service.edit(SERVICE, &format!("[Service]\nExecStartPost={probe}\n"));
    service.start();
    service.wait_for_message("as it should be");
}

#[test]
fn c5_a_worker_without_its_sandbox_logs_it() {
    let service = Service::new();
    let config = e2e::daemon::Config::example().set("daemon", "sandbox", "\"off\"");
    service.configure(&config);
    service.start();
    service.wait_for_message("not confined ([daemon] sandbox = \"off\")");
    let worker = service.wait_for_worker(None);
    // Still no privilege.
    assert_eq!(service.status(worker, "CapEff"), NONE);
    let status = service.process(worker, "status").expect("it is there");
    assert_ne!(e2e::process::find_field(&status, "Uid"), Some("0\t0\t0\t0"));
}

#[test]
fn c5_a_missing_required_sandbox_fails_the_start() {
    let service = Service::new();
    let config = e2e::daemon::Config::example().set("daemon", "sandbox", "\"require\"");
    service.configure(&config);
    service.start();
    // A kernel without Landlock, from the service's point of view.
    service.systemctl(&["stop", SERVICE]).succeeded();
    service.edit(
        SERVICE,
        "[Service]\nSystemCallFilter=~landlock_create_ruleset\n",
    );
    service.start_in_vain();
    service.wait_for_message("sandbox = \"require\"");
}

/// Runs a debugger script on the worker. Returns the numbers that it printed.
fn debug(service: &Service, worker: u32, script: &str) -> Vec<i64> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), script).expect("it is ours");
    let pid = service.machine().outside(worker).to_string();
    let run = Program::new("gdb")
        .args(["-nx", "-batch", "-p", &pid, "-x"])
        .arg(file.path())
        .deadline(Duration::from_secs(60))
        .run();
    results(&run.stdout)
}

/// The numbers that gdb printed, in order.
fn results(stdout: &str) -> Vec<i64> {
    stdout
        .lines()
        .filter_map(|line| {
            line.rsplit_once(" = ")
                .filter(|(name, _)| name.contains('$'))
        })
        .filter_map(|(_, value)| value.trim().parse().ok())
        .collect()
}
