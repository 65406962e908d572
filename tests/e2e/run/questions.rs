//! Questions with a private proxy: another terminal of the same user answers them, and the program in the jail cannot
//! (SPEC Q5, Q6).

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use e2e::daemon::Config;
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin};
use e2e::program::Run;
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

use super::Installed;

fn asking() -> Config {
    Config::example()
        .set("daemon.approvals", "enabled", "true")
        .set("daemon.approvals", "hold", "\"60s\"")
}

/// A running `proxyctl run` with a private proxy, whose control socket is open for questions.
struct Asking {
    run: Child,
    /// The socket that `run` named.
    socket: String,
}

/// A running `proxyctl approvals --follow --json` that finds the proxy by itself.
struct Follower {
    child: Child,
    questions: Receiver<Value>,
}

impl Asking {
    fn start(installed: &Installed, script: &str) -> Self {
        let mut run = Command::new(installed.path().join("proxyctl"))
            .args(["run", "--config"])
            .arg(installed.write(&asking()))
            .args(["--", "sh", "-c", script])
            .env("XDG_RUNTIME_DIR", installed.path())
            .env("HOME", installed.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("proxyctl starts");
        let mut words = BufReader::new(run.stderr.take().expect("a pipe"));
        let mut all = String::new();
        let socket = loop {
            let mut line = String::new();
            let length = words.read_line(&mut line).expect("words of run");
            assert!(length > 0, "run asks no questions: {all}");
            all.push_str(&line);
            if let Some((_, command)) = line.split_once("which another terminal answers: ") {
                let mut words = command.split_whitespace();
                let socket = words.nth(2).expect("a command with a socket");
                break socket.to_owned();
            }
        };
        // Its later words must not block it.
        thread::spawn(move || words.read_to_string(&mut all));
        Self { run, socket }
    }

    /// The output of the program, which must end well.
    fn output(mut self) -> String {
        let mut output = String::new();
        let mut stdout = self.run.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut output).expect("its output");
        let status = self.run.wait().expect("our own child");
        assert!(status.success(), "{status}: {output}");
        output
    }
}

impl Follower {
    fn start(installed: &Installed) -> Self {
        let mut child = Command::new(installed.path().join("proxyctl"))
            .args(["approvals", "--follow", "--json"])
            .env("XDG_RUNTIME_DIR", installed.path())
            .env("HOME", installed.path())
            .env_remove("CODEX_NETWORK_PROXY_CONTROL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("proxyctl starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, questions) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let question = serde_json::from_str(&line).expect("JSON");
                if sender.send(question).is_err() {
                    return;
                }
            }
        });
        Self { child, questions }
    }

    /// The id of the next question that is pending.
    fn pending(&self) -> String {
        loop {
            let question = self.questions.recv_timeout(TIMEOUT).expect("a question");
            if question["state"] == "pending" {
                return question["id"].as_str().expect("an id").to_owned();
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `proxyctl` in another terminal.
fn other_terminal(installed: &Installed, arguments: &[&str]) -> Run {
    installed.proxyctl().args(arguments).run()
}

/// Asserts that it succeeded and wrote this to standard output.
fn prints(run: &Run, text: &str) {
    assert!(run.succeeded().stdout.contains(text), "{run:#?}");
}

/// Fetches until it succeeds: while no follower listens, each request is refused at once.
fn until_through(url: &str) -> String {
    format!("until curl -sf --max-time 60 {url}; do sleep 0.02; done")
}

#[test]
fn q6_another_terminal_answers_the_questions_of_a_private_proxy() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let origin = Origin::start(|_| Answer::text("through"));
    let asking = Asking::start(&installed, &until_through(&origin.url("blocked.test", "/")));
    let follower = Follower::start(&installed);
    let id = follower.pending();
    let listed = other_terminal(&installed, &["--json", "approvals"]);
    prints(&listed, "\"command\": \"sh\"");
    // As `run` named the socket, and as it is found.
    let run = other_terminal(&installed, &["--socket", &asking.socket, "grants"]);
    prints(&run, "there is no grant");
    let run = other_terminal(&installed, &["approve", &id]);
    prints(&run, "approved blocked.test:");
    assert_eq!(asking.output(), "through");
    assert_eq!(installed.left_over(), [""; 0]);
}

#[test]
fn q3_a_rejection_in_another_terminal_refuses_the_waiting_request_and_the_next_one_at_once() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let origin = Origin::start(|_| Answer::text("through"));
    let url = origin.url("blocked.test", "/");
    let script = format!(
        "until curl -s --max-time 60 {url} | grep approval_id; do sleep 0.02; done; curl -s --max-time 5 {url}"
    );
    let asking = Asking::start(&installed, &script);
    let follower = Follower::start(&installed);
    let id = follower.pending();
    other_terminal(&installed, &["reject", &id]).succeeded();
    let output = asking.output();
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&output)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("two answers in JSON");
    assert_eq!(answers.len(), 2, "{output}");
    for answer in answers {
        assert_eq!(answer["decision"], "deny", "{answer}");
        assert_eq!(answer["approval_id"], *id, "{answer}");
    }
}

#[test]
fn q4_a_permanent_answer_is_an_entry_of_the_users_configuration() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let origin = Origin::start(|_| Answer::text("through"));
    let fetch = until_through(&origin.url("blocked.test", "/"));
    // The proxy ends with the program.
    let wait = "until [ -e \"$XDG_RUNTIME_DIR/end\" ]; do sleep 0.02; done";
    let asking = Asking::start(&installed, &format!("{fetch}; {wait}"));
    let follower = Follower::start(&installed);
    let id = follower.pending();
    let run = other_terminal(&installed, &["approve", &id, "--permanent"]);
    run.succeeded().says("this allows blocked.test");
    std::fs::write(installed.path().join("end"), "").expect("our own directory");
    assert_eq!(asking.output(), "through");
    let file = std::fs::read_to_string(installed.path().join("config.toml"));
    let file = file.expect("the test's own file");
    assert!(file.contains("\"blocked.test\", # 20"), "{file}");
    assert!(file.contains(&format!("question {id}")), "{file}");
}

#[test]
fn q5_a_program_in_a_jail_cannot_answer_its_own_question() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let origin = Origin::start(|_| Answer::text("through"));
    let url = origin.url("blocked.test", "/");
    // It finds the socket's path, and tries what a terminal of its user may.
    let script = format!(
        "while :; do curl -s --max-time 60 {url} >/dev/null; sleep 0.02; done & \
         until [ -e \"$XDG_RUNTIME_DIR/answer\" ]; do sleep 0.02; done; \
         read id < \"$XDG_RUNTIME_DIR/answer\"; \
         for socket in \"$XDG_RUNTIME_DIR\"/codex-network-proxy-run-*/control.sock; do \
           \"$XDG_RUNTIME_DIR/proxyctl\" --socket \"$socket\" approve $id >&2; echo \"named: $?\"; done; \
         \"$XDG_RUNTIME_DIR/proxyctl\" approve $id >&2; echo \"found: $?\"; kill $!"
    );
    let asking = Asking::start(&installed, &script);
    let follower = Follower::start(&installed);
    let id = follower.pending();
    std::fs::write(installed.path().join("answer"), &id).expect("our own directory");
    assert_eq!(asking.output(), "named: 4\nfound: 3\n");
}

/// Listens at a path, answers nothing, and makes a file beside it when it gets a byte.
const LISTENER: &str = r#"
    my $listener = IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 5) or die $!;
    my @held;
    while (my $one = $listener->accept) {
        open(my $file, ">", "$ARGV[0].asked") if sysread($one, my $byte, 1);
        push @held, $one;
    }
"#;

#[test]
fn q5_a_program_in_a_jail_cannot_pose_as_a_private_proxy() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let origin = Origin::start(|_| Answer::text("through"));
    // The jail does not confine files, so it can make the directory and the socket of another private proxy.
    let script = format!(
        "fake=\"$XDG_RUNTIME_DIR/codex-network-proxy-run-1-0\"; mkdir -m 700 \"$fake\"; \
         perl -MIO::Socket::UNIX -e '{LISTENER}' \"$fake/control.sock\" & \
         {}; kill $!; wait",
        until_through(&origin.url("blocked.test", "/"))
    );
    let asking = Asking::start(&installed, &script);
    let fake = installed
        .path()
        .join("codex-network-proxy-run-1-0/control.sock");
    poll(TIMEOUT, || fake.exists().then_some(())).expect("the socket of the program's proxy");
    let connects = || {
        std::os::unix::net::UnixStream::connect(&fake)
            .ok()
            .map(drop)
    };
    poll(TIMEOUT, connects).expect("it listens");
    let follower = Follower::start(&installed);
    let id = follower.pending();
    other_terminal(&installed, &["approve", &id]).succeeded();
    assert_eq!(asking.output(), "through");
    let asked = fake.with_file_name("control.sock.asked");
    assert!(!asked.exists(), "the program's listener was asked");
    std::fs::remove_dir_all(fake.parent().expect("its directory")).expect("our own directory");
}

#[test]
fn q6_with_several_private_proxies_one_must_be_named() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let both = [(), ()].map(|()| {
        Asking::start(
            &installed,
            "until [ -e \"$XDG_RUNTIME_DIR/end\" ]; do sleep 0.02; done",
        )
    });
    let run = other_terminal(&installed, &["approvals"]);
    assert_eq!(run.failed().code, Some(3));
    for asking in &both {
        run.says(&format!("--socket {}", asking.socket));
        let named = other_terminal(&installed, &["--socket", &asking.socket, "approvals"]);
        prints(&named, "there is no open question");
    }
    std::fs::write(installed.path().join("end"), "").expect("our own directory");
    for asking in both {
        assert_eq!(asking.output(), "");
    }
}

#[test]
fn q6_where_the_program_could_answer_the_control_socket_is_closed_and_run_says_so() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    for option in ["--allow-unix-sockets", "--isolation=env"] {
        let script = "ls \"$XDG_RUNTIME_DIR\"/codex-network-proxy-run-*";
        let run = installed
            .private(&asking())
            .args([option, "--", "sh", "-c", script])
            .run();
        run.succeeded()
            .says("no other terminal can answer questions");
        assert!(!run.stdout.contains("control.sock"), "{run:#?}");
    }
}
