//! `run --ask`: questions on the terminal of the launcher (SPEC Q6).

use std::io::{Read as _, Write as _};
use std::process::ChildStdin;
use std::sync::{Arc, Mutex};

use e2e::machine::{self, Need};

use super::*;
use crate::run::Installed;

/// A command on a terminal of its own, which script(1) makes.
struct OnTerminal {
    child: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(command: &str) -> Self {
        let mut child = Command::new("script")
            .args(["-qefc", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) runs");
        let mut stdout = child.stdout.take().expect("a pipe");
        let screen = Arc::<Mutex<String>>::default();
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(1..) = stdout.read(&mut bytes).inspect(|length| {
                let text = String::from_utf8_lossy(&bytes[..*length]);
                shown.lock().expect("no panic").push_str(&text);
            }) {}
        });
        Self {
            keyboard: child.stdin.take().expect("a pipe"),
            child,
            screen,
        }
    }

    fn text(&self) -> String {
        self.screen.lock().expect("no panic").clone()
    }

    /// Waits until the screen shows this after the part that was read, and returns the rest.
    fn wait_for(&self, from: usize, text: &str) -> usize {
        let found = || Some(from + self.text()[from..].find(text)? + text.len());
        poll(TIMEOUT, found).unwrap_or_else(|| panic!("no {text:?} in {:?}", self.text()))
    }

    /// The word of the next question, and where it ends.
    fn word(&self, from: usize) -> (String, usize) {
        let begin = self.wait_for(from, "Type \"");
        let end = self.wait_for(begin, " allow\"");
        let word = self.text()[begin..end]
            .trim_end_matches(" allow\"")
            .to_owned();
        (word, end)
    }

    fn type_line(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.keyboard.write_all(line.as_bytes()).expect("it reads");
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn q6_run_asks_on_its_terminal_and_takes_no_answer_of_the_program() {
    if !machine::has(Need::UserNamespaces) {
        return;
    }
    let (origin, installed) = (text_origin(), Installed::new());
    let port = origin.addr().port();
    let config = Config::example().host("other.test", std::net::Ipv4Addr::LOCALHOST);
    let config = installed.write(&config).display().to_string();
    let script = installed.path().join("script");
    // It has no input from the terminal, and what it writes there is no answer.
    let program = format!(
        "echo \"input: $(cat | wc -c) bytes\"\n\
         printf 'allow\\nonce\\n' > /dev/tty\n\
         curl -sS --max-time 50 http://blocked.test:{port}/; echo\n\
         curl -sS --max-time 50 http://other.test:{port}/ | cut -c 1-60\n"
    );
    std::fs::write(&script, program).expect("our own directory");
    let mut terminal = OnTerminal::start(&format!(
        "XDG_RUNTIME_DIR={0} {0}/proxyctl run --ask --summary=never --config {config} -- sh {0}/script",
        installed.path().display()
    ));
    terminal.wait_for(0, "input: 0 bytes");
    terminal.wait_for(0, &format!("\"sh\" asks for blocked.test:{port}"));
    let (first, shown) = terminal.word(0);
    terminal.type_line("allow");
    let shown = terminal.wait_for(shown, "that is no answer");
    let (word, shown) = terminal.word(shown);
    assert_ne!(word, first);
    terminal.type_line(&format!("{word} allow"));
    let shown = terminal.wait_for(shown, "approved blocked.test:");
    let shown = terminal.wait_for(shown, "hello");
    let (word, shown) = terminal.word(shown);
    terminal.type_line(&format!("{word} reject"));
    let shown = terminal.wait_for(shown, "denied, until the session ends");
    terminal.wait_for(shown, "\"status\":\"blocked\"");
}

#[test]
fn q6_run_does_not_ask_a_service_that_may_not_be_asked() {
    if !machine::has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let daemon = Daemon::start(&Config::example());
    let terminal = OnTerminal::start(&format!(
        "{}/proxyctl --socket {} run --ask -- true",
        installed.path().display(),
        daemon.control_socket().display()
    ));
    terminal.wait_for(0, "--ask: the proxy asks no questions");
}
