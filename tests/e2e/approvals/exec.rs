//! Commands that answer questions (SPEC Q6).

use super::*;

#[test]
fn q6_a_command_answers_the_questions_of_a_follower() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("60s"));
    let session = Session::open(&daemon);
    let command = "read -r question; case \"$question\" in \
                   *'\"command\":\"curl\"'*'\"host\":\"blocked.test\"'*) echo 1h any-port;; \
                   *'\"host\":\"blocked.test\"'*) exit 3;; \
                   *) echo once; exit 1;; esac";
    let _follower = Follower::start_with(&daemon, &["--exec", command]);
    let answered = |host: &'static str, wanted: &dyn Fn(&Response) -> bool| {
        let answer = || {
            let response = get(&session, host, port);
            wanted(&response).then_some(())
        };
        poll(TIMEOUT, answer).expect(host);
    };
    answered("blocked.test", &|response| response.status == 200);
    let grants = proxyctl_json(&daemon, &["grants"]);
    assert_eq!(
        (&grants[0]["scope"], &grants[0]["port"]),
        (&"time".into(), &Value::Null)
    );
    answered("other.test", &|response| {
        response.status == 403 && response.json().get("approval_id").is_some()
    });
    let refused = get(&session, "other.test", port).json();
    assert_eq!(refused["decision"], "deny");
}

/// Starts a follower whose command does not end, and has a child. Returns the process ids of both.
fn slow_follower(daemon: &Daemon, session: &Session, port: u16) -> (Follower, [u32; 2]) {
    let file = daemon.directory().join("pid");
    let command = format!(
        "sleep 1000 & echo $$ $! > '{0}.new'; mv '{0}.new' '{0}'; wait",
        file.display()
    );
    let follower = Follower::start_with(daemon, &["--exec", &command]);
    ask(session, "blocked.test", port);
    let text = poll(TIMEOUT, || std::fs::read_to_string(&file).ok());
    let text = text.expect("the command runs");
    let mut pids = text.split_whitespace().map(|pid| pid.parse().ok());
    let mut pid = || pids.next().flatten().expect("a process id");
    (follower, [pid(), pid()])
}

/// Whether these processes have ended.
fn all_ended(pids: [u32; 2]) -> Option<()> {
    pids.into_iter().all(e2e::process::has_ended).then_some(())
}

#[test]
fn q6_a_signal_ends_a_follower_and_its_commands_at_once() {
    use std::os::unix::process::ExitStatusExt as _;

    let port = text_origin().addr().port();
    for signal in [
        nix::sys::signal::Signal::SIGINT,
        nix::sys::signal::Signal::SIGTERM,
    ] {
        let daemon = Daemon::start(&asking("0s"));
        let session = Session::open(&daemon);
        let (mut follower, command) = slow_follower(&daemon, &session, port);
        let pid = i32::try_from(follower.child.id()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it runs");
        let ended = poll(TIMEOUT, || follower.child.try_wait().expect("our child"));
        let ended = ended.expect("it ends");
        assert_eq!(
            (ended.code(), ended.signal()),
            (Some(128 + signal as i32), None)
        );
        poll(TIMEOUT, || all_ended(command)).expect("the command and its child end");
    }
}

#[test]
fn q6_a_follower_that_loses_the_proxy_ends_its_commands() {
    let port = text_origin().addr().port();
    let daemon = Daemon::start(&asking("0s"));
    let session = Session::open(&daemon);
    let (mut follower, command) = slow_follower(&daemon, &session, port);
    drop(session);
    drop(daemon);
    poll(TIMEOUT, || follower.child.try_wait().expect("our child")).expect("it ends");
    poll(TIMEOUT, || all_ended(command)).expect("the command and its child end");
}
