//! Reading sources again while the engine runs: ahead of the end of a value's time, and when an origin refuses a
//! value (SPEC B13).
//!
//! The engine only requests it. Its owner reads the source and passes the result on later.

use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{
    CredentialId, CredentialReading, CredentialReadings, CredentialSource, Secret,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::store::{Credential, CredentialError, RequestPlace, SessionCredentials};

/// Shortest time between two requests for the same source.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// Time after a request that had no result, before the source counts as due again.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// How long a request waits for another value. A program that is read may take up to 20 seconds.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time ahead of the end of a value at which it is due.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// Has the owner of an engine read a source of credentials again.
pub trait CredentialReader: Send + Sync {
    /// Requests it, and does not wait. `place` is that of the source among the readings in force. The result
    /// comes with [`Engine::renew_credentials`](crate::Engine::renew_credentials), or never.
    fn read_again(&self, place: usize);
}

/// The requests for sources, and their results.
pub(crate) struct Renewals {
    /// `None`: no source is ever read again.
    reader: Option<Arc<dyn CredentialReader>>,
    requested: Mutex<Vec<RequestedSource>>,
    /// Counts results.
    results: watch::Sender<u64>,
}

/// The last request for a source.
struct RequestedSource {
    source: CredentialSource,
    at: Instant,
    /// Whether there is no result yet.
    is_pending: bool,
}

/// The values in a request that came from sources which can be read again.
pub(crate) struct RenewableValues {
    credentials: Arc<SessionCredentials>,
    values: Vec<(CredentialId, CredentialSource, Secret)>,
}

impl Renewals {
    pub(crate) fn new(reader: Option<Arc<dyn CredentialReader>>) -> Self {
        Self {
            reader,
            requested: Mutex::default(),
            results: watch::Sender::new(0),
        }
    }

    /// Notes the results for these sources.
    pub(crate) fn note<'s>(&self, sources: impl Iterator<Item = &'s CredentialSource>) {
        let mut requested = self.requested.lock();
        for source in sources {
            if let Some(one) = requested.iter_mut().find(|one| one.source == *source) {
                one.is_pending = false;
            }
        }
        drop(requested);
        self.results.send_modify(|count| *count += 1);
    }

    /// Has the sources of values read again, and waits for other values. Whether there are some.
    pub(crate) async fn renew(
        &self,
        values: &RenewableValues,
        readings: &CredentialReadings,
    ) -> bool {
        let mut results = self.results.subscribe();
        if values.are_replaced() {
            return true;
        }
        let sources = values.values.iter().map(|(_, source, _)| source);
        // Each of them, so no short circuit.
        let pending = sources.filter(|source| self.request(source, readings));
        if pending.count() == 0 {
            return false;
        }
        let deadline = Instant::now() + RENEWAL_TIMEOUT;
        loop {
            match timeout_at(deadline, results.changed()).await {
                Ok(Ok(())) if values.are_replaced() => return true,
                Ok(Ok(())) if self.is_pending(values) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }

    /// Requests every value whose time ends soon. The time until the next one is due; `None` if none will be.
    pub(crate) fn request_due(
        &self,
        readings: &CredentialReadings,
        unix_seconds: i64,
    ) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for reading in readings.iter() {
            let CredentialSource::Command { ttl: Some(ttl), .. } = &reading.source else {
                continue;
            };
            let ahead = (*ttl / 5).min(MAX_AHEAD);
            let age = u64::try_from(unix_seconds.saturating_sub(reading.read_at)).unwrap_or(0);
            let good = ttl.saturating_sub(ahead);
            let mut left = good.saturating_sub(Duration::from_secs(age));
            if left.is_zero() {
                left = self.retry_after(reading);
                if left.is_zero() && self.request(&reading.source, readings) {
                    left = RETRY_INTERVAL;
                }
            }
            next = Some(next.map_or(left, |next| next.min(left)));
        }
        next
    }

    /// The time until a source may be requested again. After a request without a new value, it is longer.
    fn retry_after(&self, reading: &CredentialReading) -> Duration {
        let requested = self.requested.lock();
        let last = requested.iter().find(|one| one.source == reading.source);
        last.map_or(Duration::ZERO, |last| {
            let has_failed = last.is_pending || reading.failure.is_some();
            let interval = if has_failed {
                RETRY_INTERVAL
            } else {
                MIN_INTERVAL
            };
            interval.saturating_sub(last.at.elapsed())
        })
    }

    /// Resolves at every result after the call.
    pub(crate) fn results(&self) -> watch::Receiver<u64> {
        self.results.subscribe()
    }

    /// Requests a source, unless it was requested just now. Whether a result is to come.
    fn request(&self, source: &CredentialSource, readings: &CredentialReadings) -> bool {
        let place = readings.iter().position(|one| one.source == *source);
        let (Some(reader), Some(place)) = (&self.reader, place) else {
            return false;
        };
        let now = Instant::now();
        let mut requested = self.requested.lock();
        // Sources of earlier settings would be kept for ever.
        requested.retain(|one| readings.of(&one.source).is_some());
        match requested.iter_mut().find(|one| one.source == *source) {
            Some(last) if now - last.at < MIN_INTERVAL => return last.is_pending,
            Some(last) => {
                last.at = now;
                last.is_pending = true;
            }
            None => requested.push(RequestedSource {
                source: source.clone(),
                at: now,
                is_pending: true,
            }),
        }
        drop(requested);
        reader.read_again(place);
        true
    }

    fn is_pending(&self, values: &RenewableValues) -> bool {
        let requested = self.requested.lock();
        let mut pending = requested.iter().filter(|one| one.is_pending);
        pending.any(|one| {
            let mut sources = values.values.iter().map(|(_, source, _)| source);
            sources.any(|source| *source == one.source)
        })
    }
}

impl SessionCredentials {
    /// Takes the values of later readings. Gives the errors of values that cannot be used; those before stay.
    pub(crate) fn renew(&self, readings: &CredentialReadings) -> Vec<CredentialError> {
        let renewed = self.iter().filter_map(|credential| {
            let reading = readings.of(&credential.provider().source)?;
            let value = reading.value.as_ref()?;
            if *value == credential.value() {
                return None;
            }
            self.refresh(credential.id(), value).err()
        });
        renewed.collect()
    }

    /// Whether a value that can be read again may be used there.
    pub(crate) fn are_read(&self, place: &RequestPlace<'_>) -> bool {
        let mut read = self.iter().filter(|credential| credential.is_read());
        read.any(|credential| credential.is_bound(place))
    }
}

impl Credential {
    /// Whether the value was read with the configuration, and can be read again.
    fn is_read(&self) -> bool {
        self.provider().source.is_read_with_the_configuration()
    }
}

impl RenewableValues {
    /// Those of the used credentials; `None` if none of them can be read again.
    pub(crate) fn of(credentials: &Arc<SessionCredentials>, used: &[&Credential]) -> Option<Self> {
        let read = used.iter().filter(|credential| credential.is_read());
        let values: Vec<_> = read
            .map(|credential| {
                let source = credential.provider().source.clone();
                (credential.id().clone(), source, credential.value())
            })
            .collect();
        (!values.is_empty()).then(|| Self {
            credentials: Arc::clone(credentials),
            values,
        })
    }

    /// The credentials of the session.
    pub(crate) fn credentials(&self) -> &SessionCredentials {
        &self.credentials
    }

    /// Whether the session has another value for one of them by now.
    fn are_replaced(&self) -> bool {
        self.values.iter().any(|(id, _, value)| {
            let mut all = self.credentials.iter();
            let current = all.find(|credential| credential.id() == id);
            current.is_some_and(|credential| credential.value() != *value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::tests::{OPENAI, provider, supplied};
    use super::*;

    const RENEWED: &str = "sk-proj-zzzzzz123-_456ghiJKLmnoPQRstuVWX";

    /// Counts requests.
    #[derive(Default)]
    struct Counting(Mutex<Vec<usize>>);

    impl CredentialReader for Counting {
        fn read_again(&self, place: usize) {
            self.0.lock().push(place);
        }
    }

    fn source(ttl: Option<u64>) -> CredentialSource {
        CredentialSource::Command {
            argv: vec!["/bin/token".to_owned()],
            timeout: Duration::from_secs(10),
            ttl: ttl.map(Duration::from_secs),
        }
    }

    fn readings(source: &CredentialSource, read_at: i64) -> CredentialReadings {
        CredentialReadings::new(vec![CredentialReading {
            source: source.clone(),
            value: Some(Secret::new(OPENAI.as_bytes().to_vec())),
            read_at,
            failure: None,
            failures: 0,
        }])
    }

    fn session(source: &CredentialSource) -> Arc<SessionCredentials> {
        let mut provider = provider("openai");
        provider.source = source.clone();
        let session = SessionCredentials::new([supplied(provider, &["OPENAI_API_KEY"], OPENAI)]);
        Arc::new(session.expect("a credential"))
    }

    fn values(session: &Arc<SessionCredentials>) -> RenewableValues {
        let used: Vec<&Credential> = session.iter().collect();
        RenewableValues::of(session, &used).expect("it can be read again")
    }

    #[tokio::test(start_paused = true)]
    async fn b13_a_refused_value_is_requested_once_and_the_other_one_is_waited_for() {
        let (source, reader) = (source(None), Arc::new(Counting::default()));
        let renewals = Arc::new(Renewals::new(Some(Arc::clone(&reader) as _)));
        let (session, all) = (session(&source), readings(&source, 0));
        let old = values(&session);
        let other = values(&session);
        let both = async { tokio::join!(renewals.renew(&old, &all), renewals.renew(&other, &all)) };
        let answer = async {
            tokio::task::yield_now().await;
            let id = CredentialId::parse("openai").expect("a name");
            let value = Secret::new(RENEWED.as_bytes().to_vec());
            session.refresh(&id, &value).expect("it fits");
            renewals.note(std::iter::once(&source));
        };
        let (renewed, ()) = tokio::join!(both, answer);
        assert_eq!(renewed, (true, true));
        assert_eq!(*reader.0.lock(), [0], "one request for both");
        let begun = Instant::now();
        assert!(renewals.renew(&old, &all).await, "it is replaced already");
        assert!(!renewals.renew(&values(&session), &all).await, "just read");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(*reader.0.lock(), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn b13_the_same_value_or_no_result_ends_the_wait() {
        let (source, reader) = (source(None), Arc::new(Counting::default()));
        let renewals = Renewals::new(Some(Arc::clone(&reader) as _));
        let (session, all) = (session(&source), readings(&source, 0));
        let begun = Instant::now();
        assert!(!renewals.renew(&values(&session), &all).await);
        assert_eq!(begun.elapsed(), RENEWAL_TIMEOUT);
        let same = values(&session);
        let (renewed, ()) = tokio::join!(renewals.renew(&same, &all), async {
            tokio::task::yield_now().await;
            renewals.note(std::iter::once(&source));
        });
        assert!(!renewed);
        assert_eq!(begun.elapsed(), RENEWAL_TIMEOUT, "it did not wait again");
        assert_eq!(reader.0.lock().len(), 2);
        let unread = Renewals::new(None);
        assert!(!unread.renew(&values(&session), &all).await);
    }

    #[tokio::test(start_paused = true)]
    async fn b13_a_value_is_due_ahead_of_the_end_of_its_time() {
        let (source, reader) = (source(Some(100)), Arc::new(Counting::default()));
        let renewals = Renewals::new(Some(Arc::clone(&reader) as _));
        let all = readings(&source, 1_000);
        let left = renewals.request_due(&all, 1_010);
        assert_eq!(left, Some(Duration::from_secs(70)));
        assert!(reader.0.lock().is_empty());
        assert_eq!(renewals.request_due(&all, 1_080), Some(RETRY_INTERVAL));
        assert_eq!(reader.0.lock().len(), 1);
        tokio::time::advance(Duration::from_secs(20)).await;
        let left = renewals.request_due(&all, 1_100);
        assert_eq!(left, Some(RETRY_INTERVAL - Duration::from_secs(20)));
        assert_eq!(reader.0.lock().len(), 1, "it has not failed for long");
        tokio::time::advance(RETRY_INTERVAL).await;
        renewals.request_due(&all, 1_160);
        assert_eq!(reader.0.lock().len(), 2);
        // A result with a value that is not a new one.
        renewals.note(std::iter::once(&source));
        let left = renewals.request_due(&all, 1_161);
        assert_eq!(left, Some(MIN_INTERVAL));
        let for_ever = readings(&self::source(None), 0);
        assert_eq!(renewals.request_due(&for_ever, 1_160), None);
    }
}
