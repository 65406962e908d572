//! `proxyctl run` of an ordinary user with the installed service (SPEC J1 to J4, J6, J9, J11).

use std::net::Ipv4Addr;
use std::thread;

use e2e::daemon::Config;
use e2e::program::Run;
use e2e::wait::{TIMEOUT, poll};

use super::{Bare, PACKAGE};
use crate::service::SERVICE;

/// The package, its service, and a user who may use the control socket.
fn installed() -> Bare {
    let bare = Bare::new();
    bare.install(PACKAGE).succeeded();
    bare.shell("id alice 2>/dev/null || useradd --create-home alice; usermod --append --groups codex-network-proxy alice")
        .succeeded();
    bare
}

/// Runs a script as this user, after a login.
fn as_alice(bare: &Bare, script: &str) -> Run {
    let machine = bare.service.machine();
    machine.run(["runuser", "-l", "alice", "-c", script])
}

/// A policy that allows these hosts, and lets the user open sessions.
fn policy(allowed: &[&str]) -> Config {
    let config = Config::new().host("allowed.test", Ipv4Addr::LOCALHOST).set(
        "daemon.control",
        "users",
        r#"["alice"]"#,
    );
    let allow = |config: Config, host: &&str| config.allow(host);
    allowed.iter().fold(config, allow)
}

fn reload(bare: &Bare) {
    bare.service.proxyctl("root", &["reload"]).succeeded();
}

#[test]
fn j2_j11_a_refusal_names_the_line_that_allows_the_host() {
    let bare = installed();
    let origin = bare.service.origin();
    let url = origin.url("allowed.test", "/");
    let refused = as_alice(&bare, "proxyctl run --service -- true");
    assert_eq!(refused.code, Some(125), "{refused:#?}");
    refused.says("[daemon.control] users names the users who may open sessions");

    bare.service.configure(&policy(&[]));
    reload(&bare);
    let curl = format!("proxyctl run --service --summary=always -- curl -sS {url}");
    let refused = as_alice(&bare, &curl);
    refused
        .succeeded()
        .says("uses the service of ")
        .says("allowed.test is not on the allow list of the network policy")
        .says("  refused allowed.test:");
    // The summary ends with the hosts that an entry would allow.
    let host = refused.stderr.lines().last().unwrap_or_default().trim();
    assert_eq!(host, "allowed.test", "{refused:#?}");

    bare.service.configure(&policy(&[host]));
    reload(&bare);
    let reached = as_alice(&bare, &curl);
    assert_eq!(reached.succeeded().stdout, "here");
    let port = origin.addr().port();
    reached
        .says("proxyctl: 1 allowed, 0 refused, ")
        .says(&format!("  allowed allowed.test:{port} (once)"));

    // Bash knows no proxy.
    let script = |host| {
        format!(
            r#"proxyctl run --service -- bash -c 'exec 3<>/dev/tcp/{host}/{port} && printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3'"#
        )
    };
    as_alice(&bare, &script("allowed.test"))
        .succeeded()
        .says("here");
    as_alice(&bare, &script("blocked.test"))
        .failed()
        .says("blocked.test: Name or service not known");
    // An address is judged as it is.
    let literal = as_alice(&bare, &script("192.0.2.7"));
    literal
        .succeeded()
        .says("192.0.2.7 is not on the allow list");
}

#[test]
fn j2_a_restart_of_the_service_ends_a_session_and_run_says_so() {
    let bare = installed();
    bare.service.configure(&policy(&[]));
    reload(&bare);
    thread::scope(|scope| {
        let run = scope.spawn(|| as_alice(&bare, "proxyctl run --service -- sleep 1000"));
        wait_for_session(&bare);
        bare.service.systemctl(&["restart", SERVICE]).succeeded();
        let run = run.join().expect("a run");
        assert_eq!(run.code, Some(125), "{run:#?}");
        run.says("the proxy ended the session");
    });
    assert!(!is_running(&bare, "sleep 1000"));
    as_alice(&bare, "proxyctl run --service -- true").succeeded();
}

#[test]
fn j2_j9_when_run_is_killed_its_programs_and_its_session_end() {
    let bare = installed();
    bare.service.configure(&policy(&[]));
    reload(&bare);
    // A program that leaves its session, and one in the background.
    let script = "proxyctl run --service -- sh -c 'setsid sleep 1001 & sleep 1002'";
    thread::scope(|scope| {
        let run = scope.spawn(|| as_alice(&bare, script));
        wait_for_session(&bare);
        for program in ["sleep 1001", "sleep 1002"] {
            poll(TIMEOUT, || is_running(&bare, program).then_some(())).expect("a program");
        }
        bare.shell("pkill -KILL -u alice -x proxyctl").succeeded();
        for program in ["sleep 1001", "sleep 1002"] {
            poll(TIMEOUT, || (!is_running(&bare, program)).then_some(())).expect("its end");
        }
        poll(TIMEOUT, || sessions(&bare).is_empty().then_some(())).expect("the session's end");
        run.join().expect("a run").failed();
    });
}

fn sessions(bare: &Bare) -> Vec<serde_json::Value> {
    let run = bare.service.proxyctl("root", &["sessions", "--json"]);
    serde_json::from_str(&run.succeeded().stdout).expect("a list")
}

fn wait_for_session(bare: &Bare) {
    let session = poll(TIMEOUT, || sessions(bare).pop()).expect("a session");
    assert_eq!(session["user"], "alice", "{session}");
}

fn is_running(bare: &Bare, command: &str) -> bool {
    bare.shell(&format!("pgrep -u alice -x -f '{command}'"))
        .code
        == Some(0)
}
