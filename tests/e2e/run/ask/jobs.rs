//! The terminal of the program under `run --ask`: signals, jobs, sizes, streams and ends are as without it (SPEC J9).

use e2e::process::{descendants, has_ended};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// A line for a shell outside: the command of a program with a private proxy.
fn command(installed: &Installed) -> String {
    let config = installed.write(&config());
    format!(
        "{}/proxyctl run --ask --summary=never --config {} --",
        installed.path().display(),
        config.display()
    )
}

#[test]
fn j9_keys_signals_and_exit_codes_are_as_with_the_launchers_terminal() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    asking(&installed, "exit 7").ends(7);
    let mut interrupted = asking(&installed, "echo up; exec sleep 1000");
    interrupted.shows("up\r\n");
    interrupted.types("\x03");
    interrupted.ends(130);
    let mut asked = asking(&installed, &request("http://blocked.test:9/"));
    asked.number();
    asked.types("\x03");
    asked.ends(130);
    let signalled = asking(&installed, "echo up; exec sleep 1000");
    signalled.shows("up\r\n");
    let pid = i32::try_from(signalled.child.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child");
    signalled.ends(143);
    // The program reads keys line by line, and Ctrl-D ends them.
    let mut reads = asking(&installed, "cat; echo done");
    reads.types("a line\r");
    reads.shows("a line\r\na line\r\n");
    reads.types("\x04");
    reads.shows("done\r\n");
    reads.ends(0);
}

#[test]
fn j9_much_output_arrives_whole_before_the_end() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let terminal = asking(&installed, "seq 1 30000; printf last");
    terminal.shows("\n30000\r\nlast");
    for number in [1, 15_000, 29_999] {
        assert!(
            terminal.text().contains(&format!("\n{number}\r\n")),
            "{number}"
        );
    }
    terminal.ends(0);
}

#[test]
fn j9_the_window_has_the_size_of_the_launchers() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let script = "trap 'echo now $(stty size)' WINCH; stty size; echo ready; while true; do sleep 0.05; done";
    let mut terminal = asking(&installed, script);
    terminal.shows("24 80\r\nready\r\n");
    terminal.resizes(50, 132);
    terminal.shows("now 50 132\r\n");
    terminal.types("\x03");
    terminal.ends(130);
}

#[test]
fn j9_a_program_stops_with_its_terminal_and_goes_on() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let command = command(&installed);
    let mut shell = Terminal::shell(&installed);
    shell.shows("outside> ");
    let usual = shell.settings();
    // Two processes, both of which must stop and go on.
    shell.types(&format!("{command} sh -c 'echo up; cat; echo over'\r"));
    shell.shows("up\r\n");
    assert_ne!(shell.settings(), usual, "keys are passed on");
    shell.types("first\r");
    shell.shows("first\r\nfirst\r\n");
    shell.types("\x1a");
    shell.shows("Stopped");
    shell.shows("outside> ");
    shell.types("echo code=$?\r");
    shell.shows("code=148\r\n");
    // As it was, up to what the shell itself changes.
    let (given, wanted) = (shell.settings().local_flags, usual.local_flags);
    assert_eq!(given, wanted);
    shell.types("fg\r");
    shell.shows("sh -c");
    shell.types("second\r");
    shell.shows("second\r\nsecond\r\n");
    shell.types("\x04");
    shell.shows("over\r\n");
    shell.shows("outside> ");
    shell.types("echo code=$?\r");
    shell.shows("code=0\r\n");
    shell.types("exit 0\r");
}

#[test]
fn j9_in_the_background_nothing_is_asked_until_the_foreground() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let (installed, daemon) = (Installed::new(), service());
    let mut shell = Terminal::shell(&installed);
    shell.shows("outside> ");
    std::fs::write(
        installed.path().join("script"),
        request("http://blocked.test:9/"),
    )
    .expect("our own directory");
    let socket = daemon.control_socket();
    let (folder, socket) = (installed.path().display(), socket.display());
    shell.types(&format!(
        "{folder}/proxyctl --socket {socket} run --ask --summary=never -- sh {folder}/script &\r"
    ));
    let is_asked = || (proxyctl_json(&daemon, &["approvals"])[0]["waiting"] == 1).then_some(());
    poll(TIMEOUT, is_asked).expect("a question");
    // The shell has the terminal.
    shell.types("echo mine=$((6*7))\r");
    shell.shows("mine=42\r\n");
    assert!(!shell.text().contains("type a letter"), "{}", shell.text());
    shell.types("fg\r");
    let number = shell.number();
    shell.types(&format!("r {number}\r"));
    shell.shows("[403]");
    shell.types("exit 0\r");
}

#[test]
fn j9_streams_that_are_not_the_terminal_stay() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let command = command(&installed);
    let script = installed.path().join("script");
    std::fs::write(
        &script,
        "read line; echo \"out=$line\"; test -t 0 || echo no-0; test -t 1 || echo no-1; \
         test -t 2 && echo \"error=$line\" >&2; tty <&2 >&2",
    )
    .expect("our own directory");
    let mut shell = Terminal::shell(&installed);
    shell.shows("outside> ");
    let (dir, script) = (installed.path().display(), script.display());
    shell.types(&format!(
        "echo piped | {command} sh {script} | cat > {dir}/out; echo code=$?\r"
    ));
    shell.shows("error=piped\r");
    shell.shows("/dev/pts/0\r");
    shell.shows("code=0\r\n");
    let out = std::fs::read_to_string(installed.path().join("out")).expect("a file");
    assert_eq!(out, "out=piped\nno-0\nno-1\n");
    shell.types("exit 0\r");
}

#[test]
fn j9_nothing_outlives_run_or_its_terminal() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let script = "trap '' HUP; (trap '' HUP TERM; sleep 1000) & echo up; sleep 1000; sleep 1000";
    let started = || {
        let terminal = asking(&installed, script);
        terminal.shows("up\r\n");
        let everything = descendants(terminal.child.id());
        assert!(everything.len() > 3, "{everything:?}");
        (terminal, everything)
    };
    let (mut killed, everything) = started();
    killed.child.kill().expect("our own child");
    for pid in everything {
        poll(TIMEOUT, || has_ended(pid).then_some(())).expect("it ends with run");
    }
    // The program gets the signal of a terminal that closes, and run its end.
    let hung_up = asking(
        &installed,
        "trap 'exit 9' HUP; echo up; while :; do sleep 0.05; done",
    );
    hung_up.shows("up\r\n");
    let mut child = hung_up.closes();
    let ended = poll(TIMEOUT, || child.try_wait().expect("our own child"));
    assert_eq!(ended.expect("it ends").code(), Some(9));
}
