//! `proxyctl watch` on a real terminal, and the decisions that it follows (SPEC W4).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use codex_network_control::message::DecisionEntry;
use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::session::{Caller, Session};
use e2e::shipped;
use e2e::wait::{TIMEOUT, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use parking_lot::Mutex;

use super::be_refused;
use super::callers::as_nobody;

/// A running `proxyctl watch` on a terminal of its own.
struct Watch {
    child: Child,
    keys: File,
    written: Arc<Mutex<Vec<u8>>>,
    before: Termios,
}

impl Watch {
    fn start(daemon: &Daemon) -> Self {
        let mut program = Command::new("setsid");
        program.arg("--ctty").arg(shipped::proxyctl());
        Self::run(daemon, program)
    }

    /// Runs it as the user `nobody`, which may call this daemon. Needs root.
    fn start_as_nobody(daemon: &Daemon) -> Self {
        let nobody = nix::unistd::User::from_name("nobody").expect("a user database");
        let nobody = nobody.expect("every system has nobody");
        let mut program = Command::new("setsid");
        program
            .args(["--ctty", "setpriv", "--clear-groups", "--reuid"])
            .arg(nobody.uid.to_string())
            .arg("--regid")
            .arg(nobody.gid.to_string())
            .arg(daemon.directory().join("proxyctl"))
            .current_dir("/");
        Self::run(daemon, program)
    }

    fn run(daemon: &Daemon, mut program: Command) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(&size, None).expect("a terminal");
        let before = tcgetattr(&terminal.master).expect("a terminal");
        let output = terminal.slave.try_clone().expect("a descriptor");
        let child = program
            .arg("--socket")
            .arg(daemon.control_socket())
            .arg("watch")
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .stdin(terminal.slave)
            .stdout(output)
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        // It holds the other copies of the terminal's descriptors.
        drop(program);
        let keys = File::from(terminal.master);
        let mut screen = keys.try_clone().expect("a descriptor");
        let written = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&written);
        thread::spawn(move || {
            let mut part = [0; 4096];
            // Linux reports the end of the other side as an error.
            while let Ok(length @ 1..) = screen.read(&mut part) {
                shared.lock().extend_from_slice(&part[..length]);
            }
        });
        let watch = Self {
            child,
            keys,
            written,
            before,
        };
        watch.shows("Decisions");
        watch
    }

    /// Everything that was written so far.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock()).into_owned()
    }

    /// Waits for a text. Only what changes is written, so it must come to a place that was blank.
    #[track_caller]
    fn shows(&self, text: &str) {
        let shown = poll(TIMEOUT, || self.text().contains(text).then_some(()));
        assert!(shown.is_some(), "{text:?} is not in {:?}", self.text());
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Waits for its end, and checks that the terminal is as before.
    #[track_caller]
    fn ends(mut self) {
        let ended = poll(TIMEOUT, || self.child.try_wait().expect("our own child"));
        assert_eq!(ended.expect("it ends").code(), Some(0), "{:?}", self.text());
        // The last things are the usual screen and the cursor.
        self.shows("\x1b[?1049l");
        self.shows("\x1b[?25h");
        let after = tcgetattr(&self.keys).expect("a terminal");
        assert_eq!(after, self.before);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The decisions that a caller sees, until there is one about this host.
fn followed(caller: &Caller, host: &str) -> Vec<DecisionEntry> {
    let mut seen = Vec::new();
    let found = poll(TIMEOUT, || {
        seen.extend(caller.decisions().decisions);
        seen.iter().any(|entry| entry.host == host).then_some(())
    });
    assert!(found.is_some(), "{seen:#?}");
    seen
}

#[test]
fn w4_decisions_are_followed_with_the_rule_and_the_session() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    be_refused(&daemon, "blocked.test");
    let caller = Caller::connect(&daemon);
    assert!(caller.decisions().decisions.is_empty(), "only what follows");
    let session = Session::open(&daemon);
    let url = origin.url("allowed.test", "/");
    assert_eq!(daemon.get(&url).status, 200);
    let mut client = e2e::client::Connection::open(session.doors[0]);
    let request = e2e::client::proxy_request("GET", "denied.test", "/", &[]);
    assert_eq!(client.exchange(&request).status, 403);
    let seen = followed(&caller, "denied.test");
    let [allowed, denied] = seen.as_slice() else {
        panic!("{seen:#?}")
    };
    assert_eq!(
        (&*allowed.decision, &*allowed.host),
        ("allow", "allowed.test")
    );
    assert_eq!(allowed.port, Some(origin.addr().port()));
    assert_eq!(
        (allowed.method.as_deref(), &*allowed.protocol),
        (Some("GET"), "http")
    );
    assert_eq!(allowed.session, None);
    let rule = allowed
        .rule
        .as_deref()
        .expect("the entry of the allow list");
    assert!(rule.starts_with("allowed.test ("), "{rule}");
    assert_eq!((&*denied.decision, &*denied.reason), ("deny", "denied"));
    assert_eq!(denied.session.as_deref(), Some(&*session.opened.id));
    assert_eq!(denied.command.as_deref(), Some("curl"));
    let rule = denied.rule.as_deref().expect("the entry of the deny list");
    assert!(rule.starts_with("denied.test ("), "{rule}");
    let counts = caller.decisions();
    assert_eq!((counts.allowed, counts.refused, counts.lost), (1, 1, 0));
}

#[test]
fn w4_a_user_sees_its_own_sessions_and_no_decision_of_others() {
    if !machine::has(Need::Root) {
        return;
    }
    let daemon = Daemon::start(&Config::example().set("daemon.control", "users", r#"["nobody"]"#));
    as_nobody(&daemon, &["sessions"]).succeeded();
    let (all, own) = (Watch::start(&daemon), Watch::start_as_nobody(&daemon));
    own.shows("your sessions only");
    // Calls about the whole proxy are closed to it.
    assert_eq!(as_nobody(&daemon, &["patterns"]).code, Some(4));
    let session = Session::open(&daemon);
    let mut client = e2e::client::Connection::open(session.doors[0]);
    let request = e2e::client::proxy_request("GET", "denied.test", "/", &[]);
    assert_eq!(client.exchange(&request).status, 403);
    be_refused(&daemon, "none.test");
    let curl = ["curl", "-s", "-o", "/dev/null", "http://blocked.test/"];
    let run = [&["run", "--service", "--isolation", "env", "--"][..], &curl].concat();
    as_nobody(&daemon, &run).succeeded();
    for host in ["denied.test:80", "none.test:80", "blocked.test:80"] {
        all.shows(host);
    }
    own.shows("blocked.test:80");
    for host in ["denied.test", "none.test"] {
        assert!(!own.text().contains(host), "{:?}", own.text());
    }
}

#[test]
fn w4_keys_approve_a_question() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let config = Config::example()
        .set("daemon.approvals", "enabled", "true")
        .set("daemon.approvals", "hold", r#""20s""#);
    let daemon = Daemon::start(&config);
    let mut watch = Watch::start(&daemon);
    let is_heard =
        || (proxyctl_json(&daemon, &["status"])["questions"]["is_heard"] == true).then_some(());
    poll(TIMEOUT, is_heard).expect("it listens");
    let url = origin.url("blocked.test", "/");
    thread::scope(|scope| {
        let asked = scope.spawn(|| daemon.get(&url).status);
        watch.shows(&format!("blocked.test:{}", origin.addr().port()));
        watch.press("\ta");
        assert_eq!(asked.join().expect("no panic"), 200);
    });
}

#[test]
fn w4_the_terminal_is_given_back() {
    let daemon = Daemon::start(&Config::example());
    for keys in ["q", "\x03", "?qq", "/a\x03"] {
        let mut watch = Watch::start(&daemon);
        watch.press(keys);
        watch.ends();
    }
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ] {
        let watch = Watch::start(&daemon);
        let pid = i32::try_from(watch.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("our own child");
        watch.ends();
    }
}

#[test]
fn w4_a_lost_proxy_is_named_and_followed_again() {
    let daemon = Daemon::start(&Config::example());
    let watch = Watch::start(&daemon);
    let worker = i32::try_from(daemon.worker()).expect("a process id");
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("our own worker");
    watch.shows("no proxy answers since ");
    let again = poll(TIMEOUT, || {
        be_refused(&daemon, "blocked.test");
        watch.text().contains("blocked.test:80").then_some(())
    });
    assert!(again.is_some(), "{:?}", watch.text());
}

#[test]
fn w4_without_a_terminal_the_error_names_another_command() {
    let daemon = Daemon::start(&Config::example());
    let run = proxyctl(&daemon, &["watch"]);
    run.failed().says("`proxyctl blocked --follow`");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    let run = proxyctl(&daemon, &["watch", "--json"]);
    run.failed().says("`proxyctl blocked --follow --json`");
}
