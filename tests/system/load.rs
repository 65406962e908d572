//! Clients that send requests without a pause, each on a new connection, and remember every result.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use e2e::wait::{TIMEOUT, poll};

use crate::service::request;

/// The running clients.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Attempt>>>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// A response with this status code and everything after the status line.
    Answered(u16, String),
    /// No process listened.
    Refused,
    /// The connection was made and then failed or ended without an answer.
    Broken(#[expect(dead_code, reason = "for messages of failed tests")] io::Error),
}

impl Load {
    /// Starts clients that request this URL from the proxy at `door`.
    pub(crate) fn start(clients: usize, door: &str, url: &str) -> Self {
        let door: SocketAddr = door.parse().expect("an address");
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let clients = (0..clients)
            .map(|_| {
                let (stop, done, request) = (Arc::clone(&stop), Arc::clone(&done), request(url));
                thread::spawn(move || {
                    let mut attempts = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        attempts.push(Attempt::make(door, &request));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    attempts
                })
            })
            .collect();
        Self {
            stop,
            done,
            clients,
        }
    }

    /// How many requests have ended.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests have ended.
    pub(crate) fn wait_for(&self, more: usize) {
        let enough = self.done() + more;
        poll(TIMEOUT, || (self.done() >= enough).then_some(()))
            .expect("the clients get on with it");
    }

    /// Ends the clients after their last request.
    pub(crate) fn finish(self) -> Vec<Attempt> {
        self.stop.store(true, Ordering::Relaxed);
        let attempts = self.clients.into_iter();
        attempts
            .flat_map(|client| client.join().expect("a client that does not panic"))
            .collect()
    }
}

impl Attempt {
    /// Makes one request.
    pub(crate) fn make(door: SocketAddr, request: &str) -> Self {
        let begun = Instant::now();
        let outcome = match TcpStream::connect_timeout(&door, TIMEOUT) {
            Ok(stream) => ask(stream, request).unwrap_or_else(Outcome::Broken),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Outcome::Refused,
            Err(error) => Outcome::Broken(error),
        };
        Self {
            begun,
            ended: Instant::now(),
            outcome,
        }
    }

    pub(crate) fn is_served(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(200, _))
    }
}

fn ask(mut stream: TcpStream, request: &str) -> io::Result<Outcome> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(Outcome::Answered(status, answer))
}

/// The requests that were refused by a closed port.
pub(crate) fn refused(attempts: &[Attempt]) -> usize {
    let refused = |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Refused);
    attempts.iter().filter(refused).count()
}

/// The requests that were not answered with 200, for messages.
pub(crate) fn failures(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts
        .iter()
        .filter(|attempt| !attempt.is_served())
        .collect()
}

/// When the first request that began after a moment was served.
pub(crate) fn served_again(attempts: &[Attempt], after: Instant) -> Option<Instant> {
    attempts
        .iter()
        .filter(|attempt| attempt.begun > after && attempt.is_served())
        .map(|attempt| attempt.ended)
        .min()
}

/// The longest time that a request took.
pub(crate) fn longest_wait(attempts: &[Attempt]) -> Duration {
    let waits = attempts.iter().map(|attempt| attempt.ended - attempt.begun);
    waits.max().expect("there were attempts")
}
