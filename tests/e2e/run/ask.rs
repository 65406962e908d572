//! `run --ask`: questions on the launcher's terminal, which the program cannot answer (SPEC Q6, J9).

mod jobs;
mod terminal;

use e2e::daemon::{Config, Daemon};
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin};
use e2e::program::Program;
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::session::Session;
use e2e::wait::{TIMEOUT, poll};

use self::terminal::Terminal;
use super::Installed;

/// A request waits longer than a test does, so only an answer ends it.
const LONG_HOLD: [&str; 2] = ["-c", "daemon.approvals.hold=\"10m\""];

fn config() -> Config {
    Config::example().host("other.test", std::net::Ipv4Addr::LOCALHOST)
}

/// A service that asks. A request waits longer than a test does.
fn service() -> Daemon {
    let config = config().set("daemon.approvals", "enabled", "true").set(
        "daemon.approvals",
        "hold",
        r#""10m""#,
    );
    Daemon::start(&config)
}

/// The script of a program that asks for a URL: it prints the status between brackets.
fn request(url: &str) -> String {
    format!("curl -sS --max-time 600 -o /dev/null -w '[%{{http_code}}]' {url}; ")
}

/// A program of `run --ask` with a private proxy, on a terminal of 24 lines and 80 columns.
fn asking(installed: &Installed, script: &str) -> Terminal {
    asking_with(installed, &LONG_HOLD, script)
}

fn asking_with(installed: &Installed, options: &[&str], script: &str) -> Terminal {
    let config = installed.write(&config());
    let config = config.to_str().expect("a plain path");
    let run = ["run", "--ask", "--summary=never", "--config", config];
    let program = ["--", "sh", "-c", script];
    Terminal::start(installed, &[&run[..], options, &program].concat())
}

#[test]
fn q6_an_answer_for_the_session_lets_the_request_and_its_retry_through_and_only_it() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let origin = Origin::start(|_| Answer::text("hello"));
    let [blocked, other] = ["blocked.test", "other.test"].map(|host| origin.url(host, "/"));
    let script = [request(&blocked), request(&blocked), request(&other)].concat();
    let installed = Installed::new();
    let mut terminal = asking(&installed, &script);
    let port = origin.addr().port();
    terminal.shows(&format!(
        "proxyctl: \"sh\" wants blocked.test:{port} (http), which"
    ));
    let number = terminal.number();
    terminal.types(&format!("session {number}\r"));
    terminal.shows(&format!(
        "proxyctl: approved blocked.test:{port} until the session ends"
    ));
    terminal.shows("[200][200]");
    terminal.shows(&format!("proxyctl: \"sh\" wants other.test:{port}"));
    // The request waits for ten minutes, so what ends it is the answer.
    let number = terminal.number();
    terminal.types(&format!("r {number}\r"));
    terminal.shows(&format!("proxyctl: rejected other.test:{port}"));
    terminal.shows("[403]");
    terminal.ends(0);
}

#[test]
fn q6_an_approval_for_one_connection_or_some_minutes_says_so() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let origin = Origin::start(|_| Answer::text("hello"));
    let [blocked, other] = ["blocked.test", "other.test"].map(|host| origin.url(host, "/"));
    let script = [request(&blocked), request(&blocked), request(&other)].concat();
    let installed = Installed::new();
    let mut terminal = asking(&installed, &script);
    for (choice, said) in [
        ("o", " for one connection for session "),
        ("once", " for one connection for session "),
        ("m", " until 2"),
    ] {
        let number = terminal.number();
        terminal.types(&format!("{choice} {number}\r"));
        terminal.shows(said);
        terminal.shows("[200]");
    }
    terminal.ends(0);
}

#[test]
fn q6_what_was_typed_before_the_question_goes_to_the_program_and_is_no_answer() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let go = installed.path().join("go");
    let script = format!(
        "echo up; until [ -e {} ]; do sleep 0.02; done; {} read line; echo \"got=<$line>\"",
        go.display(),
        request("http://blocked.test:9/")
    );
    let mut terminal = asking(&installed, &script);
    terminal.shows("up\r\n");
    terminal.types("s 111\r");
    // The terminal of the program shows what it got.
    terminal.shows("s 111\r\n");
    std::fs::write(&go, "").expect("our own directory");
    let number = terminal.number();
    // The question waits still, and the program reads nothing of the answer.
    terminal.types(&format!("r {number}\r"));
    terminal.shows("rejected blocked.test:9");
    terminal.shows("[403]");
    terminal.shows("got=<s 111>");
    terminal.ends(0);
}

#[test]
fn q6_an_imitated_question_and_replies_of_the_terminal_answer_nothing() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    // A question of its own, a request for the cursor's place, the begin of a title, and then the real question.
    let script = format!(
        "printf 'proxyctl: type a letter and 11, such as s 11: \\033[6n\\033]0;'; {}",
        request("http://blocked.test:9/")
    );
    let mut terminal = asking(&installed, &script);
    let number = terminal.number();
    assert!(number > 99, "{number}");
    // CAN ends the title that the program has begun, before any text of the question.
    let text = terminal.text();
    assert!(text.contains("s 11: \x1b[6n\x1b]0;\x18\x1b\\"), "{text:?}");
    for answer in [
        "s 11\r".to_owned(),
        "\x1b[24;80Rs 11\r".to_owned(),
        format!("\x1b]ls {number}\r"),
        "s\r".to_owned(),
    ] {
        terminal.types(&answer);
        terminal.shows("proxyctl: this is not an answer");
    }
    // Each failure has changed the number.
    let number = terminal.number();
    terminal.types(&format!("l {number}\r"));
    terminal.shows("proxyctl: the question stays open");
    assert!(!terminal.text().contains("approved"));
    terminal.types("\x03");
    terminal.ends(130);
}

#[test]
fn q6_the_output_of_the_program_waits_while_a_question_is_open() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let (go, done) = (installed.path().join("go"), installed.path().join("done"));
    let script = format!(
        "(until [ -e {0} ]; do sleep 0.02; done; echo LATE; echo > {1}) & {2} wait",
        go.display(),
        done.display(),
        request("http://blocked.test:9/")
    );
    let mut terminal = asking(&installed, &script);
    let number = terminal.number();
    std::fs::write(&go, "").expect("our own directory");
    poll(TIMEOUT, || done.exists().then_some(())).expect("the program has written");
    // A key whose echo shows that the relay has had its turn.
    terminal.types("x");
    terminal.shows("x");
    assert!(!terminal.text().contains("LATE"), "{}", terminal.text());
    terminal.types(&format!("\x7fr {number}\r"));
    terminal.shows("LATE");
    terminal.ends(0);
}

#[test]
fn q6_the_program_has_no_path_to_the_terminal_of_the_launcher() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    // The sizes of the two tell them apart: the launcher's has another name or another file system.
    let script = "echo \"[$(ls /dev/pts | tr '\\n' ' ')]\"; echo \"[$(tty)]\"; \
                  for fd in /proc/1/fd/*; do ls -l $fd; done 2>&1 | grep -c pts; \
                  for tty in /dev/console /dev/tty0; do \
                  test -e $tty && stat -L -c '%t:%T' $tty; done; echo end";
    let terminal = asking(&installed, script);
    terminal.shows("[0 ptmx ]\r\n[/dev/pts/0]\r\n");
    terminal.shows("end\r\n");
    let text = terminal.text();
    assert!(!text.contains("5:1") && !text.contains("4:0"), "{text}");
    terminal.ends(0);
}

#[test]
fn q6_a_question_that_is_answered_elsewhere_goes_away() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let daemon = service();
    let installed = Installed::new();
    let socket = daemon.control_socket().display().to_string();
    let script = format!(
        "{} {} read line",
        request("http://blocked.test:9/"),
        request("http://other.test:9/")
    );
    let run = ["--socket", &socket, "run", "--ask", "--summary=never", "--"];
    let mut terminal = Terminal::start(&installed, &[&run[..], &["sh", "-c", &script]].concat());
    for host in ["blocked.test", "other.test"] {
        terminal.shows(&format!("wants {host}:9"));
        let open = proxyctl_json(&daemon, &["approvals"]);
        let id = open[0]["id"].as_str().expect("an id").to_owned();
        proxyctl(&daemon, &["reject", &id]).succeeded();
        terminal.shows("proxyctl: the question is denied, by ");
    }
    terminal.types("\r");
    terminal.ends(0);
}

#[test]
fn q6_questions_of_other_sessions_are_not_asked() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let daemon = service();
    let installed = Installed::new();
    let socket = daemon.control_socket().display().to_string();
    let run = ["--socket", &socket, "run", "--ask", "--summary=never", "--"];
    let script = ["sh", "-c", "echo up; read line"];
    let mut terminal = Terminal::start(&installed, &[&run[..], &script].concat());
    terminal.shows("up\r\n");
    let other = Session::open(&daemon);
    let mut client = e2e::client::Connection::open(other.doors[0]);
    let request = e2e::client::proxy_request("GET", "blocked.test", "/", &[]);
    // It would wait for ten minutes if the terminal counted for it.
    let refused = client.exchange(&request);
    assert_eq!(
        (refused.status, &refused.json()["decision"]),
        (403, &"deny".into())
    );
    terminal.types("\r");
    terminal.ends(0);
}

#[test]
fn q6_without_a_terminal_the_error_says_what_to_do() {
    let installed = Installed::new();
    let run = Program::new("setsid")
        .arg("--wait")
        .arg(installed.path().join("proxyctl"))
        .args(["run", "--ask", "--private", "--", "true"])
        .run();
    assert_eq!(run.code, Some(2), "{run:?}");
    run.says("--ask needs a terminal")
        .says("`proxyctl approvals --follow`");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
}

#[test]
fn q6_questions_need_a_jail_a_proxy_that_asks_and_the_right_to_answer() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let daemon = Daemon::start(&config());
    let socket = daemon.control_socket().display().to_string();
    let program = ["--", "echo", "began"];
    for (options, code, said) in [
        (
            &["run", "--ask", "--isolation", "env"][..],
            2,
            "--ask needs the jail",
        ),
        (
            &["--socket", &socket, "run", "--ask"],
            125,
            "the proxy asks no questions; `[daemon.approvals] enabled = true`",
        ),
        (
            &["run", "--ask", "-c", "daemon.approvals.enabled=false"],
            125,
            "the proxy asks no questions; `[daemon.approvals] enabled = true`",
        ),
    ] {
        let terminal = Terminal::start(&installed, &[options, &program].concat());
        terminal.shows(said);
        assert!(!terminal.text().contains("began"), "{}", terminal.text());
        terminal.ends(code);
    }
}

#[test]
fn q6_a_user_who_may_not_answer_is_told_so_before_the_program_begins() {
    if !has(Need::UserNamespaces) || !has(Need::Root) {
        return;
    }
    let installed = Installed::new();
    let with = |own: &str| {
        config()
            .set("daemon.control", "users", r#"["nobody"]"#)
            .set("daemon.approvals", "enabled", "true")
            .set("daemon.approvals", "own", own)
    };
    let daemon = Daemon::start(&with("false"));
    let socket = daemon.control_socket().display().to_string();
    // Opens the daemon's directory to this user.
    crate::control::callers::as_nobody(&daemon, &["sessions"]).succeeded();
    let run = ["--socket", &socket, "run", "--ask", "--summary=never", "--"];
    let run = [&run[..], &["echo", "began"]].concat();
    let terminal = Terminal::start_as_nobody(&installed, &run);
    terminal.shows("this user may not answer questions; `[daemon.approvals] own = true`");
    assert!(!terminal.text().contains("began"), "{}", terminal.text());
    terminal.ends(125);
    daemon.reload_with(&with("true"));
    let terminal = Terminal::start_as_nobody(&installed, &run);
    terminal.shows("began\r\n");
    terminal.ends(0);
}

/// A program that reads nothing, with more typed than its terminal and the relay take: the terminal of the launcher
/// holds the rest. When the file exists, it runs a script, and `after` runs outside when it has ended.
fn unread(installed: &Installed, script: &str, after: &str) -> (Terminal, std::path::PathBuf) {
    let go = installed.path().join("go");
    let config = installed.write(&config());
    let (folder, config, go_shown) = (installed.path().display(), config.display(), go.display());
    let script = format!(
        "stty raw -echo; echo up; until [ -e {go_shown} ]; do sleep 0.02; done; {script} true"
    );
    std::fs::write(installed.path().join("script"), script).expect("our own directory");
    let command = format!(
        "{folder}/proxyctl run --ask --summary=never --config {config} -- sh {folder}/script; {after}"
    );
    let mut terminal = Terminal::script(installed, &command);
    terminal.shows("up\n");
    terminal.types_until_full("x");
    (terminal, go)
}

#[test]
fn q6_a_program_that_reads_no_input_does_not_make_its_question_unanswerable() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let (mut terminal, go) = unread(&installed, &request("http://blocked.test:9/"), "true");
    std::fs::write(&go, "").expect("our own directory");
    let number = terminal.number();
    // The keys that found no room before are none of the answer.
    terminal.types(&format!("\x15r {number}\r"));
    terminal.shows("rejected blocked.test:9");
    terminal.shows("[403]");
    terminal.ends(0);
}

#[test]
fn q6_ctrl_c_leaves_the_question_of_a_program_that_reads_no_input() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let (mut terminal, go) = unread(&installed, &request("http://blocked.test:9/"), "true");
    std::fs::write(&go, "").expect("our own directory");
    terminal.number();
    terminal.types("\x03");
    terminal.shows("proxyctl: the question stays open");
}

#[test]
fn j9_what_is_not_read_does_not_reach_the_next_program_of_the_terminal() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let next = "echo next; read line; echo \"got=<$line>\"";
    let (mut terminal, go) = unread(&installed, "", next);
    std::fs::write(&go, "").expect("our own directory");
    terminal.shows("next\r\n");
    terminal.types("mine\r");
    terminal.shows("got=<mine>");
    terminal.ends(0);
}

#[test]
fn q6_a_question_that_no_request_waits_for_lets_the_program_go_on_and_is_asked_again() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let url = "http://blocked.test:9/";
    let script = format!("{0} echo went; {0} read line; {0}", request(url));
    let hold = ["-c", "daemon.approvals.hold=\"2s\""];
    let mut terminal = asking_with(&installed, &hold, &script);
    terminal.number();
    // Nobody answers, and the output is there.
    terminal.shows(
        "proxyctl: no request waits any more; the question stays open, and `proxyctl --socket ",
    );
    terminal.shows("[403]went\r\n");
    // The next request asks the same question again.
    terminal.number();
    terminal.shows(
        "proxyctl: no request waits any more; the question stays open, and `proxyctl --socket ",
    );
    terminal.shows("[403]");
    // The command that is shown answers it.
    let text = terminal.text();
    let (_, command) = text.rsplit_once("and `proxyctl ").expect("a command");
    let (command, _) = command.split_once('`').expect("its end");
    let command = command.replace("approve", "reject");
    installed
        .proxyctl()
        .args(command.split(' '))
        .run()
        .succeeded();
    let seen = terminal.text().len();
    terminal.types("\r");
    terminal.shows("[403]");
    assert!(
        !terminal.text()[seen..].contains("wants"),
        "{}",
        terminal.text()
    );
    terminal.ends(0);
}
