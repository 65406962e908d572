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
