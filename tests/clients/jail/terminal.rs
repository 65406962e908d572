//! `proxyctl run` in a terminal of `tmux`: job control, Ctrl-C, exit codes and the window's size are as without
//! it (SPEC J1, J9).

use e2e::daemon::{Config, Daemon};
use e2e::program::Program;
use e2e::wait::{TIMEOUT, poll};
use nix::unistd::User;
use tempfile::TempDir;

use super::{Installed, Jail, Proxy, Variables, for_users, path, users};

/// A `tmux` server with one window, in which a shell runs. It ends with the value.
struct Terminal<'a> {
    directory: TempDir,
    user: Option<&'a User>,
}

impl<'a> Terminal<'a> {
    fn start(user: Option<&'a User>) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        if let Some(user) = user {
            nix::unistd::chown(directory.path(), Some(user.uid), Some(user.gid))
                .expect("root gives it away");
        }
        let terminal = Self { directory, user };
        // A setting of the size before there is a window ends tmux 3.3.
        let shell = "exec bash --norc --noprofile -i";
        terminal.tmux(
            &["-f", "/dev/null", "new-session", "-d", shell, ";"],
            &["set-option", "-g", "status", "off"],
        );
        terminal.resizes("100", "30");
        terminal.types("PS1='outside> '; clear");
        terminal.shows("outside>");
        terminal
    }

    fn tmux(&self, first: &[&str], then: &[&str]) -> String {
        let mut tmux = Program::new("tmux")
            .arg("-S")
            .arg(self.directory.path().join("socket"))
            .args(first)
            .args(then)
            .env("PATH", path())
            // Its own is not for logins.
            .env("SHELL", "/bin/bash");
        if let Some(user) = self.user {
            tmux = tmux.user(user);
        }
        tmux.run().succeeded().stdout.clone()
    }

    fn resizes(&self, width: &str, height: &str) {
        self.tmux(&["resize-window", "-x", width, "-y", height], &[]);
    }

    /// Types a line.
    fn types(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line], &[";", "send-keys", "Enter"]);
    }

    /// Presses a key, as tmux names it.
    fn presses(&self, key: &str) {
        self.tmux(&["send-keys", key], &[]);
    }

    /// Waits until the screen shows these lines, of which the last may go on.
    #[track_caller]
    fn shows(&self, lines: &str) {
        let screen = || self.tmux(&["capture-pane", "-p"], &[]);
        poll(TIMEOUT, || screen().contains(lines).then_some(()))
            .unwrap_or_else(|| panic!("not {lines:?}, but:\n{}", screen()));
    }

    /// Waits until this program has the terminal.
    #[track_caller]
    fn runs(&self, program: &str) {
        let running = || self.tmux(&["display-message", "-p", "#{pane_current_command}"], &[]);
        poll(TIMEOUT, || (running().trim() == program).then_some(()))
            .unwrap_or_else(|| panic!("not {program}, but {}", running()));
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let mut tmux = Program::new("tmux").arg("-S");
        tmux = tmux.arg(self.directory.path().join("socket"));
        // It has ended already if a test has failed early.
        let _ = tmux.arg("kill-server").run();
    }
}

#[test]
fn j9_job_control_exit_codes_and_the_window_size_are_as_without_a_jail() {
    let users = users();
    if users.is_empty() {
        return;
    }
    let config = for_users(&Config::example());
    let installed = Installed::new(&config);
    let daemon = Daemon::start(&config);
    for user in &users {
        let jail = Jail {
            installed: &installed,
            user: user.as_ref(),
            proxy: Proxy::Service(&daemon),
            variables: Variables::Set,
        };
        let words = jail.words().into_iter();
        let words: Vec<String> = words.map(|word| word.display().to_string()).collect();
        let terminal = Terminal::start(user.as_ref());
        // Short lines, which the screen does not break.
        terminal.types(&format!(
            "run() {{ {} --summary=never -- \"$@\"; }}; clear",
            words.join(" ")
        ));
        the_jail_is_a_job(&terminal);
        a_shell_in_the_jail_has_jobs(&terminal);
    }
}

/// The shell outside stops the jail, continues it and ends it.
fn the_jail_is_a_job(terminal: &Terminal<'_>) {
    terminal.types("run sh -c 'echo up; exec sleep 1000'");
    terminal.shows("\nup");
    terminal.presses("C-z");
    terminal.shows("Stopped");
    terminal.types("code=$?; clear; echo code $code");
    terminal.shows("code 148\noutside>");
    terminal.types("clear; fg");
    // The leader of the process group, which the program shares.
    terminal.runs("proxyctl");
    terminal.presses("C-c");
    terminal.shows("outside>");
    terminal.types("code=$?; clear; echo code $code");
    terminal.shows("code 130\noutside>");
}

fn a_shell_in_the_jail_has_jobs(terminal: &Terminal<'_>) {
    terminal.types("clear; run bash --norc --noprofile -i");
    terminal.shows("\nbash-");
    terminal.types("PS1='jail> '; clear; stty size");
    terminal.shows("30 100\njail>");
    terminal.resizes("90", "20");
    terminal.types("clear; stty size");
    terminal.shows("20 90\njail>");
    terminal.types("clear; sleep 1000");
    terminal.runs("sleep");
    terminal.presses("C-z");
    terminal.shows("Stopped");
    terminal.types("clear; jobs");
    terminal.shows("Stopped                 sleep 1000\njail>");
    terminal.types("clear; fg");
    terminal.runs("sleep");
    terminal.presses("C-c");
    terminal.types("code=$?; clear; echo code $code");
    terminal.shows("code 130\njail>");
    terminal.types("clear; curl -sS -o /dev/null -w '%{http_code}\\n' http://blocked.test/");
    terminal.shows("403\njail>");
    terminal.types("clear; exit 7");
    terminal.shows("outside>");
    terminal.types("code=$?; clear; echo code $code");
    terminal.shows("code 7\noutside>");
    terminal.resizes("100", "30");
}
