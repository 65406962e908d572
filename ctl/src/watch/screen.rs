//! The terminal: its other screen and raw keys, and the way back from them.
//!
//! The terminal is given back when the guard is dropped, before a panic is reported, and while the process is stopped.

use std::io::{self, IsTerminal as _, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, raise};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Position, Rect};

use super::model::Model;
use super::view::{self, Colours};
use crate::failure::Failure;

/// Whether the terminal is ours at present.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it shows our screen.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    colours: Colours,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> Result<Self, Failure> {
        let reported = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            release();
            reported(panic);
        }));
        take()?;
        let terminal =
            Terminal::new(CrosstermBackend::new(io::stdout())).inspect_err(|_| release())?;
        Ok(Self {
            terminal,
            colours: Colours::from_environment(),
        })
    }

    /// Draws. Only what has changed is written.
    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        let colours = self.colours;
        self.terminal.draw(|frame| {
            let area = frame.area();
            view::draw(model, colours, area, frame.buffer_mut());
        })?;
        Ok(())
    }

    /// The columns and lines.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Gives the terminal back, and stops this process until it is continued.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        release();
        raise(Signal::SIGSTOP)?;
        self.resume()
    }

    /// Takes the terminal again: a shell has changed its settings meanwhile.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        release();
        take()?;
        // `clear` would ask the terminal for the cursor, and the answer would go to the thread that reads keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        release();
    }
}

/// Fails unless keys can be read and a screen can be drawn.
pub(super) fn check() -> Result<(), Failure> {
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if is_terminal && !is_dumb {
        return Ok(());
    }
    Err(Failure::Failed(
        "`watch` needs a terminal with a screen; `proxyctl blocked --follow` lists refusals line by line".to_owned(),
    ))
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::Release);
    execute!(io::stdout(), EnterAlternateScreen).inspect_err(|_| release())
}

/// Gives the terminal back, if it is ours. A terminal that is gone needs nothing.
fn release() {
    if IS_TAKEN.swap(false, Ordering::AcqRel) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;

    use super::*;

    /// Tells the test that it runs in a process and on a terminal of its own.
    const PANICS: &str = "WATCH_TEST_PANICS";

    #[test]
    fn w4_the_terminal_is_given_back_before_a_panic_is_reported() {
        if std::env::var_os(PANICS).is_some() {
            let mut screen = Screen::open().expect("a terminal");
            screen.draw(&Model::default()).expect("a terminal");
            panic!("as a test");
        }
        let terminal = openpty(None, None).expect("a terminal");
        let before = tcgetattr(&terminal.master).expect("a terminal");
        let output = || Stdio::from(terminal.slave.try_clone().expect("a descriptor"));
        // Two packages compile this file, and the path to it differs.
        let (_, name) = module_path!().split_once("::").expect("a crate");
        let mut program = Command::new("setsid");
        program
            .args(["--ctty", "--wait"])
            .arg(std::env::current_exe().expect("a path"))
            .args(["--exact", "--nocapture"])
            .arg(format!(
                "{name}::w4_the_terminal_is_given_back_before_a_panic_is_reported"
            ))
            .env("TERM", "xterm")
            .env(PANICS, "1");
        let mut child = program
            .stdin(output())
            .stdout(output())
            .stderr(output())
            .spawn()
            .expect("setsid runs");
        // It holds copies of the terminal's descriptors.
        drop(program);
        let mut text = Vec::new();
        let mut part = [0; 4096];
        let mut screen = File::from(terminal.master.try_clone().expect("a descriptor"));
        // This process keeps the other side open, so the end is that of the child's report.
        while !String::from_utf8_lossy(&text).contains("test result: ") {
            let length = screen.read(&mut part).expect("a terminal");
            text.extend_from_slice(&part[..length]);
        }
        child.wait().expect("our own child");
        let text = String::from_utf8_lossy(&text);
        let place = |what: &str| {
            text.find(what)
                .unwrap_or_else(|| panic!("no {what:?}: {text}"))
        };
        let (taken, given) = (place("\x1b[?1049h"), place("\x1b[?1049l"));
        assert!(taken < given && given < place("as a test"), "{text}");
        // Raw mode is over: lines of the report begin at the left.
        assert!(text[place("as a test")..].contains("\r\n"), "{text}");
        assert_eq!(tcgetattr(&terminal.master).expect("a terminal"), before);
    }
}
