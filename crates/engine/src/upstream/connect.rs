//! Dialling: the only place in the workspace that opens a TCP connection to an upstream
//! (`ARCHITECTURE.md`, "Invariants").
//!
//! Takes vetted addresses and returns the first connection among them, by the "Happy Eyeballs"
//! rules of RFC 8305. It deliberately resolves nothing and decides nothing: no name reaches this
//! file, and an address that is not in the list cannot be dialled.

use std::{io, net::SocketAddr, task::Poll, time::Duration};

use futures_util::{
    future::{BoxFuture, FutureExt},
    poll,
    stream::{FuturesUnordered, StreamExt},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    task::yield_now,
    time::{Instant, timeout},
};

use crate::connect_error::ConnectError;
use crate::descriptors;
use crate::enforce::VettedAddrs;

/// How long an attempt runs alone before the next one starts beside it: the "Connection Attempt
/// Delay" of RFC 8305 section 5, at its recommended value.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(250);
/// Addresses tried at most for one connection, so that a name with hundreds of them does not use
/// hundreds of descriptors.
const MAX_ATTEMPTS: usize = 16;

/// When TCP first probes a silent peer, how often, and how many times without an answer. A peer
/// that is gone is found within two minutes. The protocol over the connection sees none of it.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE_PROBES: u32 = 4;

/// Dials one address; tests use scripted diallers.
pub trait Dial: Send + Sync + 'static {
    /// Opens one connection to `address`. Dropping the future cancels the attempt.
    ///
    /// # Errors
    ///
    /// The system's error. There is no time limit: the caller sets one.
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// Dials with the system's sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialler;

impl Dial for TcpDialler {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that dials; only vetted addresses get here"
    )]
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        async move {
            let stream = TcpStream::connect(address).await?;
            // The client decides when to send. Nagle's delay would come on top of the client's own.
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_tcp_keepalive(&keep_alive())?;
            Ok(stream)
        }
        .boxed()
    }
}

fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(KEEP_ALIVE_TIME)
        .with_interval(KEEP_ALIVE_INTERVAL)
        .with_retries(KEEP_ALIVE_PROBES)
}

/// Connects to the first of `addresses` that answers (RFC 8305). Families alternate, beginning with
/// that of the first address. The next attempt starts [`ATTEMPT_INTERVAL`] after the previous one, or
/// at once when one fails. The first success wins and the other attempts are dropped. At most
/// [`MAX_ATTEMPTS`] addresses are tried.
///
/// No task is spawned: dropping the returned future closes every attempt.
///
/// # Errors
///
/// The most informative failure (see [`telling`]), when every attempt failed or `limit` has passed
/// since the call.
pub(crate) async fn connect(
    dialler: &dyn Dial,
    addresses: &VettedAddrs,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    first_of(dialler, addresses.as_slice(), limit).await
}

async fn first_of(
    dialler: &dyn Dial,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let Some((first, others)) = addresses.split_first() else {
        return Err(ConnectError::Unreachable);
    };
    let begun = Instant::now();
    let alone = match others {
        [] => limit,
        _ => limit.min(ATTEMPT_INTERVAL),
    };
    let mut failure = TellingError::default();
    // Most connections succeed here. A host nearby answers before the thread would sleep, so it needs no
    // timer.
    let mut attempt = dialler.dial(*first);
    let at_once = match poll!(&mut attempt) {
        Poll::Pending => {
            yield_now().await;
            poll!(&mut attempt)
        }
        connected @ Poll::Ready(_) => connected,
    };
    let outcome = match at_once {
        Poll::Ready(connected) => Ok(connected),
        Poll::Pending => timeout(alone, &mut attempt).await,
    };
    let running = match outcome {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => {
            failure.note(error);
            None
        }
        Err(_) if alone == limit => {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        Err(_) => Some(attempt),
    };
    let untried = interleave(addresses).into_iter().skip(1);
    let left = limit.saturating_sub(begun.elapsed());
    let raced = Box::pin(race(dialler, running, untried, &mut failure));
    match timeout(left, raced).await {
        Ok(Some(stream)) => return Ok(stream),
        Ok(None) => {}
        Err(_) => failure.note(io::ErrorKind::TimedOut.into()),
    }
    Err(failure
        .0
        .map_or(ConnectError::Unreachable, ConnectError::from))
}

/// Runs the first attempt, if it still runs, and the further ones; `None` when all have failed.
async fn race<'d>(
    dialler: &'d dyn Dial,
    running: Option<BoxFuture<'d, io::Result<TcpStream>>>,
    mut untried: impl ExactSizeIterator<Item = SocketAddr>,
    failure: &mut TellingError,
) -> Option<TcpStream> {
    let mut attempts: FuturesUnordered<_> = running.into_iter().collect();
    // Each round starts one attempt, if one is left, for every delay that passed and for every attempt
    // that failed.
    loop {
        attempts.extend(untried.next().map(|address| dialler.dial(address)));
        let finished = if untried.len() == 0 {
            attempts.next().await?
        } else if let Ok(finished) = timeout(ATTEMPT_INTERVAL, attempts.next()).await {
            finished?
        } else {
            continue;
        };
        match finished {
            Ok(stream) => return Some(stream),
            Err(error) => failure.note(error),
        }
    }
}

/// RFC 8305 section 4, with a "First Address Family Count" of one: the families alternate from the
/// first address on, each in its own order. Cut to [`MAX_ATTEMPTS`] after that, so that both
/// families are in the result.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else {
        return Vec::new();
    };
    let (same, other): (Vec<_>, Vec<_>) = addresses
        .iter()
        .copied()
        .partition(|address| address.is_ipv4() == first.is_ipv4());
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut turns = Vec::with_capacity(addresses.len());
    while turns.len() < addresses.len() {
        turns.extend(same.next());
        turns.extend(other.next());
    }
    turns.truncate(MAX_ATTEMPTS);
    turns
}

/// The most informative failure so far.
#[derive(Default)]
struct TellingError(Option<io::Error>);

impl TellingError {
    fn note(&mut self, error: io::Error) {
        if self
            .0
            .as_ref()
            .is_none_or(|known| telling(&error) > telling(known))
        {
            self.0 = Some(error);
        }
    }
}

/// How much a failure reveals about why the host as a whole could not be reached. The most informative
/// one is reported.
///
/// A lack of descriptors ranks highest, because then the attempt learnt nothing about the host.
/// Below it rank, in this order, the host's own answer (refused), unclassified errors, a router's
/// answer (unreachable), and silence. Lowest rank errors that this machine raises without sending
/// anything: on a machine without IPv6 every host with an AAAA record has such a failure, and it
/// reveals nothing about the host.
fn telling(error: &io::Error) -> u8 {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable,
        TimedOut,
    };
    match error.kind() {
        _ if descriptors::are_exhausted(error) => 5,
        ConnectionRefused => 4,
        HostUnreachable => 2,
        TimedOut => 1,
        NetworkUnreachable | NetworkDown | AddrNotAvailable => 0,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, future::pending, sync::Mutex};

    use nix::libc;
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// How an address behaves after it is dialled, and after how many milliseconds.
    #[derive(Clone, Copy)]
    enum Script {
        Connects(u64),
        Fails(u64, io::ErrorKind),
        FailsWith(i32),
        NeverAnswers,
    }
    use Script::{Connects, Fails, FailsWith, NeverAnswers};

    #[derive(Debug, PartialEq)]
    enum Event {
        Began,
        Connected,
        Failed,
        Dropped,
    }
    use Event::{Began, Connected, Dropped, Failed};

    /// A dialler that follows a script and logs events, in milliseconds.
    struct Scripted {
        script: HashMap<SocketAddr, Script>,
        start: Instant,
        log: Mutex<Vec<(u128, SocketAddr, Event)>>,
    }

    impl Scripted {
        fn new(script: &[(SocketAddr, Script)]) -> Self {
            Self {
                script: script.iter().copied().collect(),
                start: Instant::now(),
                log: Mutex::default(),
            }
        }

        fn note(&self, address: SocketAddr, event: Event) {
            let at = self.start.elapsed().as_millis();
            self.log.lock().unwrap().push((at, address, event));
        }

        fn log(&self) -> Vec<(u128, SocketAddr, Event)> {
            std::mem::take(&mut *self.log.lock().unwrap())
        }

        fn began(&self) -> Vec<SocketAddr> {
            let log = self.log().into_iter();
            log.filter(|entry| entry.2 == Began)
                .map(|entry| entry.1)
                .collect()
        }
    }

    impl Dial for Scripted {
        fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
            struct DialAttempt<'a>(&'a Scripted, SocketAddr, Option<Event>);
            impl Drop for DialAttempt<'_> {
                fn drop(&mut self) {
                    self.0.note(self.1, self.2.take().unwrap_or(Dropped));
                }
            }
            async move {
                self.note(address, Began);
                let mut attempt = DialAttempt(self, address, None);
                let result = match self.script[&address] {
                    Connects(after) => {
                        sleep(Duration::from_millis(after)).await;
                        Ok(connected())
                    }
                    Fails(after, kind) => {
                        sleep(Duration::from_millis(after)).await;
                        Err(kind.into())
                    }
                    FailsWith(errno) => Err(io::Error::from_raw_os_error(errno)),
                    NeverAnswers => pending().await,
                };
                attempt.2 = Some(if result.is_ok() { Connected } else { Failed });
                result
            }
            .boxed()
        }
    }

    /// A connection of this process to itself, made without letting the paused clock run on.
    #[expect(clippy::disallowed_methods, reason = "to a listener of this test")]
    fn connected() -> TcpStream {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    }

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 443))
    }

    async fn connect_to(
        dialler: &Scripted,
        addresses: &[SocketAddr],
    ) -> Result<TcpStream, ConnectError> {
        first_of(dialler, addresses, LIMIT).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_address_is_dialled_once() {
        let dialler = Scripted::new(&[(v4(1), Connects(40))]);
        connect_to(&dialler, &[v4(1)]).await.unwrap();
        let expected = [(0, v4(1), Began), (40, v4(1), Connected)];
        assert_eq!(dialler.log(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn without_addresses_nothing_is_dialled() {
        let dialler = Scripted::new(&[]);
        let error = connect_to(&dialler, &[]).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unreachable), "{error:?}");
        assert_eq!(dialler.log(), []);
    }

    /// RFC 8305 section 5. The losers are cancelled.
    #[tokio::test(start_paused = true)]
    async fn the_next_attempt_starts_after_the_delay_and_the_first_success_drops_the_others() {
        let script = [
            (v6(1), NeverAnswers),
            (v4(1), NeverAnswers),
            (v6(2), Connects(30)),
        ];
        let dialler = Scripted::new(&script);
        connect_to(&dialler, &[v6(1), v6(2), v4(1)]).await.unwrap();
        let mut log = dialler.log();
        log[4..].sort_by_key(|entry| entry.1); // dropped at once, in no order
        let expected = [
            (0, v6(1), Began),
            (250, v4(1), Began),
            (500, v6(2), Began),
            (530, v6(2), Connected),
            (530, v4(1), Dropped),
            (530, v6(1), Dropped),
        ];
        assert_eq!(log, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_may_still_win_against_the_second() {
        let dialler = Scripted::new(&[(v6(1), Connects(300)), (v4(1), Connects(100))]);
        connect_to(&dialler, &[v6(1), v4(1)]).await.unwrap();
        let expected = [
            (0, v6(1), Began),
            (250, v4(1), Began),
            (300, v6(1), Connected),
            (300, v4(1), Dropped),
        ];
        assert_eq!(dialler.log(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_attempt_at_once() {
        let refused = Fails(10, io::ErrorKind::ConnectionRefused);
        let dialler = Scripted::new(&[
            (v6(1), refused),
            (v4(1), NeverAnswers),
            (v6(2), Connects(5)),
        ]);
        connect_to(&dialler, &[v6(1), v6(2), v4(1)]).await.unwrap();
        let expected = [
            (0, v6(1), Began),
            (10, v6(1), Failed),
            (10, v4(1), Began),
            (260, v6(2), Began), // a full delay after the attempt before it
            (265, v6(2), Connected),
            (265, v4(1), Dropped),
        ];
        assert_eq!(dialler.log(), expected);
    }

    /// RFC 8305 section 4.
    #[tokio::test(start_paused = true)]
    async fn families_take_turns_from_that_of_the_first_address() {
        let refused = Fails(0, io::ErrorKind::ConnectionRefused);
        let all = [v4(1), v4(2), v4(3), v6(1), v6(2)];
        let dialler = Scripted::new(&all.map(|address| (address, refused)));
        connect_to(&dialler, &all).await.unwrap_err();
        assert_eq!(dialler.began(), [v4(1), v6(1), v4(2), v6(2), v4(3)]);
        connect_to(&dialler, &[v6(1), v4(3), v4(1), v6(2)])
            .await
            .unwrap_err();
        assert_eq!(dialler.began(), [v6(1), v4(3), v6(2), v4(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_sixteen_addresses_are_tried_and_both_families_are_among_them() {
        let many: Vec<_> = (0..40).map(v6).chain([v4(1)]).collect();
        let refused = Fails(0, io::ErrorKind::ConnectionRefused);
        let script: Vec<_> = many.iter().map(|address| (*address, refused)).collect();
        let dialler = Scripted::new(&script);
        connect_to(&dialler, &many).await.unwrap_err();
        let began = dialler.began();
        assert_eq!(began.len(), 16);
        assert_eq!(began[1], v4(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_for_all_attempts_together_and_ends_them() {
        let dialler = Scripted::new(&[(v6(1), NeverAnswers), (v4(1), NeverAnswers)]);
        let error = connect_to(&dialler, &[v6(1), v4(1)]).await.unwrap_err();
        assert!(matches!(error, ConnectError::Timeout), "{error:?}");
        let log = dialler.log();
        let ended: Vec<_> = log[2..].iter().map(|(at, _, event)| (*at, event)).collect();
        assert_eq!(ended, [(10_000, &Dropped), (10_000, &Dropped)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_below_the_delay_leaves_the_first_attempt_alone() {
        let dialler = Scripted::new(&[(v6(1), NeverAnswers), (v4(1), NeverAnswers)]);
        let limit = Duration::from_millis(100);
        let error = first_of(&dialler, &[v6(1), v4(1)], limit)
            .await
            .unwrap_err();
        assert!(matches!(error, ConnectError::Timeout), "{error:?}");
        assert_eq!(dialler.log(), [(0, v6(1), Began), (100, v6(1), Dropped)]);
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_the_call_gives_up_every_attempt() {
        let dialler = Scripted::new(&[(v6(1), NeverAnswers), (v4(1), NeverAnswers)]);
        let addresses = [v6(1), v4(1)];
        let given_up = timeout(Duration::from_millis(300), connect_to(&dialler, &addresses));
        given_up.await.unwrap_err();
        let log = dialler.log();
        assert_eq!(log.iter().filter(|entry| entry.2 == Dropped).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_failures_the_most_telling_one_is_reported() {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
        };
        let of = async |first: Script, second: Script| {
            let dialler = Scripted::new(&[(v6(1), first), (v4(1), second)]);
            let error = connect_to(&dialler, &[v6(1), v4(1)]).await.unwrap_err();
            format!("{error:?}").split('(').next().unwrap().to_owned()
        };
        let refused = Fails(1, ConnectionRefused);
        let no_route = Fails(1, NetworkUnreachable);
        assert_eq!(of(refused, Fails(1, HostUnreachable)).await, "Refused");
        assert_eq!(of(Fails(1, HostUnreachable), refused).await, "Refused");
        assert_eq!(of(refused, NeverAnswers).await, "Refused");
        assert_eq!(
            of(Fails(1, HostUnreachable), Fails(1, TimedOut)).await,
            "Unreachable"
        );
        assert_eq!(of(no_route, no_route).await, "Unreachable");
        assert_eq!(of(no_route, Fails(1, ConnectionReset)).await, "Other");
        // A machine without IPv6 reports this for every host, which must not hide the result of
        // IPv4.
        assert_eq!(of(no_route, NeverAnswers).await, "Timeout");
        assert_eq!(
            of(refused, FailsWith(libc::EMFILE)).await,
            "ExhaustedDescriptors"
        );
        assert_eq!(
            of(FailsWith(libc::ENFILE), NeverAnswers).await,
            "ExhaustedDescriptors"
        );
    }

    #[tokio::test]
    async fn m6_the_real_dialler_has_tcp_look_for_peers_that_are_gone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = first_of(&TcpDialler, &[address], LIMIT).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        let after = socket.tcp_keepalive_time().unwrap();
        let interval = socket.tcp_keepalive_interval().unwrap();
        let gone = after + interval * socket.tcp_keepalive_retries().unwrap();
        assert!(gone <= Duration::from_secs(120), "{gone:?}");
    }

    #[tokio::test]
    async fn the_real_dialler_connects_without_nagle_and_says_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = first_of(&TcpDialler, &[address], LIMIT).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(stream.nodelay().unwrap());

        let not_listening = tokio::net::TcpSocket::new_v4().unwrap();
        not_listening.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = not_listening.local_addr().unwrap();
        let error = first_of(&TcpDialler, &[address], LIMIT).await.unwrap_err();
        assert!(matches!(error, ConnectError::Refused), "{error:?}");
    }
}
