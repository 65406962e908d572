//! Clients that open sessions in a loop (SPEC J13): they meet their own limit, and leave nothing behind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codex_network_control::message::{DoorKind, SessionRequest};
use e2e::daemon::{Config, Daemon};
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin};
use e2e::program::{Program, Run};
use e2e::session::{Caller, Session, sockets};
use e2e::shipped;
use e2e::wait::{TIMEOUT, poll};

/// Runs curl in a session of `nobody`, whose user is not the one of this test.
fn curl_as_nobody(daemon: &Daemon, url: &str) -> Run {
    let curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url];
    run_as_nobody(daemon, &[], &curl)
}

/// Runs a command in a session of `nobody`, with these options of `run`.
fn run_as_nobody(daemon: &Daemon, options: &[&str], command: &[&str]) -> Run {
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(daemon.directory(), open).expect("our own directory");
    let program = daemon.directory().join("proxyctl");
    // By another process: a child of another test could inherit the open file.
    Program::new("cp")
        .args([Path::new(shipped::proxyctl()), &program])
        .run()
        .succeeded();
    Program::new("setpriv")
        .args(["--clear-groups", "--reuid", "65534", "--regid", "65534"])
        .arg(program)
        .arg("--socket")
        .arg(daemon.control_socket())
        .args(["run", "--isolation", "env"])
        .args(options)
        .arg("--")
        .args(command)
        .current_dir(Path::new("/"))
        .run()
}

#[test]
fn j4_a_profile_that_the_user_may_not_choose_is_refused_as_one_that_does_not_exist() {
    if !has(Need::Root) {
        return;
    }
    let config = Config::example()
        .set("daemon.control", "users", r#"["nobody"]"#)
        .set(
            "daemon.sessions",
            "profiles",
            r#"{ build = ["daemon"], other = ["nobody"] }"#,
        )
        .append(
            "[permissions.build.network]\nenabled = true\n\
             [permissions.other.network]\nenabled = true\n",
        );
    let daemon = Daemon::start(&config);
    let run = |profile| run_as_nobody(&daemon, &["--profile", profile], &["echo", "started"]);
    for profile in ["build", "nope"] {
        let run = run(profile);
        assert_eq!(run.failed().code, Some(125), "{run:#?}");
        run.says(&format!(
            "there is no permission profile \"{profile}\" for this user; this user may choose other"
        ));
        assert_eq!(run.stdout, "");
    }
    assert_eq!(run("other").succeeded().stdout, "started\n");
}

#[test]
fn j13_a_client_that_opens_sessions_in_a_loop_is_refused_and_no_other_user_is() {
    if !has(Need::Root) {
        return;
    }
    let origin = Origin::start(|_| Answer::text("hello"));
    let config = Config::example()
        .set("daemon.sessions", "max_per_user", "5")
        .set("daemon.control", "users", r#"["nobody"]"#);
    let daemon = Daemon::start(&config);
    let open: Vec<Session> = (0..5).map(|_| Session::open(&daemon)).collect();
    let greedy = Caller::connect(&daemon);
    let attempt = || {
        let doors = vec![DoorKind::Http, DoorKind::Socks5];
        let (_, given) = sockets(&doors);
        greedy.open(SessionRequest {
            command: "loop".to_owned(),
            doors,
            sockets: given.into(),
            ..SessionRequest::default()
        })
    };
    for _ in 0..200 {
        let refused = attempt().expect_err("it has its share");
        assert_eq!(
            refused.to_string(),
            "this user has 5 sessions, and [daemon.sessions] max_per_user permits no more"
        );
    }
    let url = origin.url("allowed.test", "/");
    assert_eq!(curl_as_nobody(&daemon, &url).succeeded().stdout, "200");
    assert_eq!(daemon.get(&url).status, 200);
    for session in &open {
        let port = origin.addr().port();
        assert_eq!(super::status(session, "allowed.test", port), 200);
    }
    assert_eq!(greedy.sessions().sessions.len(), 5);
}

#[test]
fn j13_sessions_that_come_and_go_leave_no_descriptor_and_no_place() {
    if !has(Need::Ptrace) {
        return;
    }
    let daemon = Daemon::start(&Config::example().set("daemon.sessions", "max_per_user", "5"));
    let descriptors = || {
        let folder = format!("/proc/{}/fd", daemon.worker());
        std::fs::read_dir(folder).expect("root may look").count()
    };
    // The first one starts what all share.
    drop(Session::open(&daemon));
    let watch = Caller::connect(&daemon);
    let are_gone = || watch.sessions().sessions.is_empty().then_some(());
    poll(TIMEOUT, are_gone).expect("the first one ends");
    let before = descriptors();
    for _ in 0..100 {
        let session = poll(TIMEOUT, || {
            let caller = Caller::connect(&daemon);
            let doors = vec![DoorKind::Http, DoorKind::DnsUdp];
            let (_, given) = sockets(&doors);
            let opened = caller.open(SessionRequest {
                command: "loop".to_owned(),
                doors,
                sockets: given.into(),
                ..SessionRequest::default()
            });
            opened.ok().map(|_| caller)
        });
        drop(session.expect("a place is free again"));
    }
    poll(TIMEOUT, are_gone).expect("all end");
    poll(TIMEOUT, || (descriptors() <= before).then_some(())).unwrap_or_else(|| {
        panic!("{before} descriptors before, {} after", descriptors());
    });
}
