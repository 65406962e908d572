//! `proxyctl watch`: the proxy on a full screen (SPEC W4).
//!
//! - `feed`: calls the proxy.
//! - `model`: the state of the screen; `rows`, `rates`, `filter`, `decision_list`, `selection` and `page` are its parts.
//! - `keys`: the command of each key.
//! - `view`: draws the model into a buffer.
//! - `screen`: the terminal.
//!
//! This file only moves things between them. It draws when something has changed, within a rate.

mod decision_list;
mod feed;
mod filter;
mod keys;
mod model;
mod page;
mod rates;
mod rows;
mod screen;
mod selection;
mod view;

use std::time::Duration;

use codex_network_control::Client;
use codex_network_control::message::DecisionsQuery;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::model::{Effect, Model, Update};
use self::screen::Screen;
use crate::failure::Failure;
use crate::output::{Output, OutputFormat};

/// The least time between two drawings.
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
/// The same after a key, whose effect should be seen at once.
const KEY_DRAW_INTERVAL: Duration = Duration::from_millis(20);
/// Updates, keys and requests that wait. A full queue makes its sender wait.
const QUEUE: usize = 16;

/// Fails before the proxy is called, if there is no screen to show it on.
pub(crate) fn check(output: &Output) -> Result<(), Failure> {
    if output.format() == OutputFormat::Json {
        return Err(Failure::Failed(
            "`watch` shows a screen; `proxyctl blocked --follow --json` writes JSON".to_owned(),
        ));
    }
    screen::check()
}

/// Shows the proxy until the user quits.
pub(crate) async fn run(client: Client) -> Result<(), Failure> {
    // An error of the first call is better read on the usual screen.
    client.decisions(DecisionsQuery::default()).await?;
    let mut stops = Stops::new()?;
    let (updates, mut news) = mpsc::channel(QUEUE);
    let (requests, requested) = mpsc::channel(QUEUE);
    let mut screen = Screen::open()?;
    let mut keys = keyboard()?;
    let feed = tokio::spawn(feed::run(client, updates, requested));
    let mut model = Model::default();
    let (columns, lines) = screen.size()?;
    model.resized(columns, lines);
    let (mut drawn, mut interval) = (Instant::now(), Duration::ZERO);
    let mut is_due = false;
    let ended = loop {
        is_due |= model.take_change();
        tokio::select! {
            biased;
            stop = stops.next() => match stop {
                Stop::Quit => break Ok(()),
                Stop::Suspend => {
                    screen.suspend()?;
                    model.changed();
                }
                Stop::Resume => {
                    screen.resume()?;
                    model.changed();
                }
            },
            event = keys.recv() => {
                let Some(event) = event else { break Ok(()) };
                interval = KEY_DRAW_INTERVAL;
                if let Event::Resize(columns, lines) = event {
                    model.resized(columns, lines);
                }
                if let Event::Key(key) = event
                    && let Some(command) = keys::command(key, model.key_mode())
                {
                    match model.act(command) {
                        Effect::None => {}
                        Effect::Quit => break Ok(()),
                        // The other processes of a pipeline stop too. Ours comes back as a signal.
                        Effect::Suspend => drop(kill(Pid::from_raw(0), Signal::SIGTSTP)),
                        Effect::Call(request) => {
                            if requests.try_send(request).is_err() {
                                model.apply(busy(), Instant::now().into_std());
                            }
                        }
                    }
                }
            },
            () = sleep_until(drawn + interval), if is_due => {
                if let Err(error) = screen.draw(&model) {
                    break Err(Failure::Output(error));
                }
                (drawn, interval, is_due) = (Instant::now(), DRAW_INTERVAL, false);
            },
            update = news.recv() => {
                let Some(update) = update else { break Ok(()) };
                model.apply(update, Instant::now().into_std());
            },
        }
    };
    feed.abort();
    ended
}

fn busy() -> Update {
    Update::Answered("the proxy has not answered the last calls yet; try again".to_owned())
}

/// Keys and changes of the screen's size, from a thread that ends with the process.
fn keyboard() -> Result<mpsc::Receiver<Event>, Failure> {
    let (keys, pressed) = mpsc::channel(QUEUE);
    let read = move || {
        while let Ok(event) = event::read() {
            if keys.blocking_send(event).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("keys".to_owned());
    thread.spawn(read)?;
    Ok(pressed)
}

/// The signals that end or stop a program.
struct Stops {
    quit: [tokio::signal::unix::Signal; 4],
    suspend: tokio::signal::unix::Signal,
    resume: tokio::signal::unix::Signal,
}

enum Stop {
    Quit,
    Suspend,
    Resume,
}

impl Stops {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            quit: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
                signal(SignalKind::quit())?,
            ],
            suspend: signal(SignalKind::from_raw(Signal::SIGTSTP as i32))?,
            resume: signal(SignalKind::from_raw(Signal::SIGCONT as i32))?,
        })
    }

    async fn next(&mut self) -> Stop {
        let [interrupt, terminate, hangup, quit] = &mut self.quit;
        tokio::select! {
            _ = interrupt.recv() => Stop::Quit,
            _ = terminate.recv() => Stop::Quit,
            _ = hangup.recv() => Stop::Quit,
            _ = quit.recv() => Stop::Quit,
            _ = self.suspend.recv() => Stop::Suspend,
            _ = self.resume.recv() => Stop::Resume,
        }
    }
}
