//! The credentials of one session: real values, the dummies that stand for them, and their use (SPEC B3,
//! B9).
//!
//! The values are dropped, and overwritten, with the session. They leave this module only for a header
//! field of a request (`selection`) and as strings to search for (`scrubber`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use codex_network_config::{
    CredentialId, CredentialProvider, CredentialSource, Destination, DestinationScheme, Secret,
    Settings, VariableName,
};
use codex_network_policy::Host;
use parking_lot::Mutex;

use super::dummy::{Dummy, DummyError, MAX_CREDENTIALS, MAX_SESSION_BYTES};
use super::scrubber::{CurrentScrubber, Scrubber};
use crate::content_coding::UserWindows;

/// The method whose answer contains the request's fields (RFC 9110 section 9.3.8).
const TRACE: &str = "TRACE";

/// Values before the one in force that are still scrubbed. During a refresh, the value in force is the first of them,
/// and the one before it the second.
const MAX_EARLIER_VALUES: usize = 2;

/// A real value, as its source gave it.
#[derive(Clone, Debug)]
pub(crate) struct SuppliedCredential {
    /// With all its destinations.
    pub(crate) provider: Arc<CredentialProvider>,
    /// The same, as the settings had it.
    pub(crate) configured: Arc<CredentialProvider>,
    /// The variables of the program that hold the value.
    pub(crate) variables: Vec<VariableName>,
    pub(crate) value: Secret,
}

/// All credentials of a session.
pub(crate) struct SessionCredentials {
    /// Those that may be used.
    credentials: Vec<Arc<Credential>>,
    /// Those that the session began with.
    all: Arc<[Arc<Credential>]>,
    /// Finds the values in force, and those before them.
    scrubber: Arc<CurrentScrubber>,
    /// The codings of answers that are undone for its user.
    windows: UserWindows,
    /// Locked during a refresh: two of them at a time could each miss the other's value.
    refreshing: Arc<Mutex<()>>,
}

/// One value and its dummy.
pub(crate) struct Credential {
    provider: Arc<CredentialProvider>,
    configured: Arc<CredentialProvider>,
    variables: Vec<VariableName>,
    dummy: Dummy,
    values: ArcSwap<Values>,
    /// Whether a request in plain HTTP has carried a value.
    is_sent_plainly: AtomicBool,
    uses: AtomicU64,
    /// Seconds since 1970; 0 for never.
    last_used: AtomicI64,
}

/// The facts about a credential of a session that anybody who sees the session may know.
#[derive(Clone, Debug)]
pub struct CredentialInfo {
    /// Its name.
    pub id: CredentialId,
    /// The variables of the program that hold its dummy.
    pub variables: Vec<VariableName>,
    /// Where the value may go.
    pub destinations: Vec<Destination>,
    /// Where the value comes from.
    pub source: CredentialSource,
    /// How many requests carried the value.
    pub uses: u64,
    /// When the last one did, in seconds since 1970 (UTC).
    pub last_used: Option<i64>,
    /// When the value was read with the configuration, in seconds since 1970 (UTC). `None` for one that the
    /// launcher gave, or that was never read.
    pub read_at: Option<i64>,
    /// How many readings of the source have failed.
    pub failures: u64,
    /// Why the session has no dummy, or why the last reading failed: the rest of a sentence about the
    /// credential.
    pub failure: Option<Arc<str>>,
}

/// The value in force, and those before: an origin may still answer with them.
struct Values {
    current: Secret,
    /// The latest first, at most [`MAX_EARLIER_VALUES`].
    earlier: Vec<Secret>,
}

/// The place where a request goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestPlace<'a> {
    pub(crate) scheme: DestinationScheme,
    pub(crate) host: &'a Host,
    pub(crate) port: u16,
    /// The request-target in origin-form.
    pub(crate) target: &'a str,
    pub(crate) method: &'a str,
}

/// A value that cannot become a credential. The text never contains a part of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of the credential {id} {error}")]
pub(crate) struct CredentialError {
    pub(crate) id: CredentialId,
    pub(crate) error: DummyError,
}

impl SessionCredentials {
    /// Makes a dummy for each value, in a session of this user. Equal values of one provider have one. Values that cannot have a dummy
    /// are left out; the errors say which ones.
    pub(crate) fn from_supplied(
        supplied: impl IntoIterator<Item = SuppliedCredential>,
        user: u32,
    ) -> (Self, Vec<CredentialError>) {
        let mut credentials: Vec<Credential> = Vec::new();
        let mut errors = Vec::new();
        let mut left = MAX_SESSION_BYTES;
        for supplied in supplied {
            let same = credentials.iter_mut().find(|credential| {
                credential.id() == &supplied.provider.id && credential.value() == supplied.value
            });
            if let Some(same) = same {
                same.variables.extend(supplied.variables);
                continue;
            }
            let bytes = supplied.value.expose().len();
            if credentials.len() >= MAX_CREDENTIALS || bytes > left {
                let id = supplied.provider.id.clone();
                let error = DummyError::TooMany;
                errors.push(CredentialError { id, error });
                continue;
            }
            match Credential::new(supplied) {
                Ok(credential) => {
                    left -= bytes;
                    credentials.push(credential);
                }
                Err(error) => errors.push(error),
            }
        }
        let credentials: Vec<_> = credentials.into_iter().map(Arc::new).collect();
        let scrubber = CurrentScrubber::new(scrubber_for(&credentials, &[]));
        let session = Self {
            all: credentials.clone().into(),
            credentials,
            scrubber: Arc::new(scrubber),
            windows: UserWindows::of(user),
            refreshing: Arc::default(),
        };
        (session, errors)
    }

    /// The same as `from_supplied`, for tests.
    #[cfg(test)]
    pub(crate) fn new(
        supplied: impl IntoIterator<Item = SuppliedCredential>,
    ) -> Result<Self, CredentialError> {
        let (all, errors) = Self::from_supplied(supplied, 0);
        errors.into_iter().next().map_or(Ok(all), Err)
    }

    /// Those whose providers are the same under these settings. The others are of no use while the settings
    /// are in force. Their hosts are still intercepted, and answers are scrubbed of all values, since an origin
    /// may know a value from an earlier request.
    pub(crate) fn under(&self, settings: &Settings) -> Self {
        let providers = &settings.credential_providers;
        let is_kept = |credential: &&Arc<Credential>| providers.contains(&credential.configured);
        Self {
            credentials: self.all.iter().filter(is_kept).cloned().collect(),
            all: Arc::clone(&self.all),
            scrubber: Arc::clone(&self.scrubber),
            windows: self.windows.clone(),
            refreshing: Arc::clone(&self.refreshing),
        }
    }

    /// The facts about each.
    pub(crate) fn infos(&self) -> impl Iterator<Item = CredentialInfo> {
        self.iter().map(|credential| {
            let (uses, last_used) = credential.usage();
            CredentialInfo {
                id: credential.id().clone(),
                variables: credential.variables.clone(),
                destinations: credential.provider.destinations.clone(),
                source: credential.provider.source.clone(),
                uses,
                last_used,
                read_at: None,
                failures: 0,
                failure: None,
            }
        })
    }

    /// The variables that hold dummies, and these.
    pub(crate) fn dummies(&self) -> impl Iterator<Item = (&VariableName, &str)> {
        self.iter().flat_map(|credential| {
            let dummy = credential.dummy().as_str();
            credential.variables.iter().map(move |name| (name, dummy))
        })
    }

    /// All credentials.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Credential> {
        self.credentials.iter().map(|credential| &**credential)
    }

    /// Finds the real values in answers. It follows each refresh, so an answer that goes on after one has to load
    /// the scrubber again.
    pub(crate) fn scrubber(&self) -> &Arc<CurrentScrubber> {
        &self.scrubber
    }

    /// Counts the codings of the answers of its user.
    pub(crate) fn windows(&self) -> &UserWindows {
        &self.windows
    }

    /// Takes a new value of a credential. The dummy stays the same (SPEC B9). `false` if the session has no
    /// credential with this name.
    ///
    /// The scrubber finds the new value before any request can carry it.
    ///
    /// # Errors
    ///
    /// A [`CredentialError`] for a value that is not one of the provider. The old value stays then.
    pub(super) fn refresh(
        &self,
        id: &CredentialId,
        value: &Secret,
    ) -> Result<bool, CredentialError> {
        let _refreshing = self.refreshing.lock();
        let mut is_known = false;
        let mut refreshed = Vec::new();
        for credential in self.credentials.iter().filter(|one| one.id() == id) {
            is_known = true;
            let values = credential.values.load();
            if values.current == *value {
                continue;
            }
            // Only its checks count here.
            Dummy::for_value(value.expose(), &credential.provider.patterns).map_err(|error| {
                CredentialError {
                    id: id.clone(),
                    error,
                }
            })?;
            refreshed.push((credential, Arc::new(values.followed_by(value))));
        }
        if !refreshed.is_empty() {
            self.scrubber.replace(scrubber_for(&self.all, &refreshed));
        }
        for (credential, values) in refreshed {
            credential.values.store(values);
        }
        Ok(is_known)
    }

    /// Whether a credential of this name may be used there.
    pub(crate) fn is_bound(&self, id: &CredentialId, place: &RequestPlace<'_>) -> bool {
        let mut named = self.credentials.iter().filter(|one| one.id() == id);
        named.any(|credential| credential.is_bound(place))
    }

    /// Whether requests to this server may carry a credential, by whatever path, or could before a reload: its
    /// TLS is intercepted (SPEC M1), and its answers are scrubbed. `plainly`: whether plain HTTP may carry one.
    pub(crate) fn reach(
        &self,
        scheme: DestinationScheme,
        host: &Host,
        port: u16,
        plainly: bool,
    ) -> bool {
        let is_https = scheme == DestinationScheme::Https;
        self.all.iter().any(|credential| {
            let mut destinations = credential.provider.destinations.iter();
            (is_https || plainly || credential.is_sent_plainly.load(Ordering::Relaxed))
                && destinations.any(|destination| destination.reaches(scheme, host, port))
        })
    }

    /// Whether some requests to this server must carry a credential.
    pub(crate) fn require(&self, scheme: DestinationScheme, host: &Host, port: u16) -> bool {
        self.iter().any(|credential| {
            let mut destinations = credential.provider.destinations.iter();
            credential.provider.require
                && destinations.any(|destination| destination.reaches(scheme, host, port))
        })
    }

    /// Whether these still have each credential that was bound to the place. A reload may have removed its provider
    /// since.
    pub(crate) fn keep_bound(&self, earlier: &Self, place: &RequestPlace<'_>) -> bool {
        let mut bound = earlier.iter().filter(|one| one.is_bound(place));
        bound.all(|bound| self.iter().any(|one| std::ptr::eq(one, bound)))
    }
}

impl Credential {
    fn new(supplied: SuppliedCredential) -> Result<Self, CredentialError> {
        let SuppliedCredential {
            provider,
            configured,
            variables,
            value,
        } = supplied;
        let dummy = Dummy::for_value(value.expose(), &provider.patterns).map_err(|error| {
            let id = provider.id.clone();
            CredentialError { id, error }
        })?;
        Ok(Self {
            provider,
            configured,
            variables,
            dummy,
            values: ArcSwap::from_pointee(Values {
                current: value,
                earlier: Vec::new(),
            }),
            is_sent_plainly: AtomicBool::new(false),
            uses: AtomicU64::new(0),
            last_used: AtomicI64::new(0),
        })
    }

    /// The name of the provider.
    pub(crate) fn id(&self) -> &CredentialId {
        &self.provider.id
    }

    /// The provider.
    pub(crate) fn provider(&self) -> &CredentialProvider {
        &self.provider
    }

    /// The variables that hold the dummy.
    #[cfg(test)]
    pub(crate) fn variables(&self) -> &[VariableName] {
        &self.variables
    }

    /// The text that stands for the value.
    pub(crate) fn dummy(&self) -> &Dummy {
        &self.dummy
    }

    /// The value in force.
    pub(super) fn value(&self) -> Secret {
        self.values.load().current.clone()
    }

    /// Whether a request to this place may carry the value.
    pub(crate) fn is_bound(&self, place: &RequestPlace<'_>) -> bool {
        let fits_method = match &self.provider.methods {
            Some(methods) => methods.iter().any(|method| method.as_str() == place.method),
            None => place.method != TRACE,
        };
        fits_method && self.covers(place)
    }

    /// Whether a destination covers the place.
    pub(super) fn covers(&self, place: &RequestPlace<'_>) -> bool {
        let mut destinations = self.provider.destinations.iter();
        destinations.any(|one| one.covers(place.scheme, place.host, place.port, place.target))
    }

    /// Whether the origin may take the place for one that a destination covers.
    pub(super) fn may_cover(&self, place: &RequestPlace<'_>) -> bool {
        let mut destinations = self.provider.destinations.iter();
        destinations.any(|one| one.may_cover(place.scheme, place.host, place.port, place.target))
    }

    /// Notes that a request to this place carries the value.
    pub(super) fn note_sent(&self, place: &RequestPlace<'_>) {
        if place.scheme == DestinationScheme::Http {
            self.is_sent_plainly.store(true, Ordering::Relaxed);
        }
    }

    /// Counts a request that carries the value.
    pub(crate) fn count_use(&self, now: i64) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.last_used.store(now, Ordering::Relaxed);
    }

    /// How many requests carried the value, and when the last one did, in seconds since 1970.
    pub(crate) fn usage(&self) -> (u64, Option<i64>) {
        let last = self.last_used.load(Ordering::Relaxed);
        let uses = self.uses.load(Ordering::Relaxed);
        (uses, (last != 0).then_some(last))
    }
}

impl Values {
    /// Those after a refresh.
    fn followed_by(&self, value: &Secret) -> Self {
        let others = self.earlier.iter().filter(|&one| one != value);
        let earlier = [&self.current].into_iter().chain(others);
        Self {
            current: value.clone(),
            earlier: earlier.take(MAX_EARLIER_VALUES).cloned().collect(),
        }
    }
}

/// Finds the values of credentials. Those that are refreshed just now will have the values beside them.
fn scrubber_for(
    credentials: &[Arc<Credential>],
    refreshed: &[(&Arc<Credential>, Arc<Values>)],
) -> Scrubber {
    let values: Vec<_> = credentials
        .iter()
        .map(|credential| {
            let mut refreshed = refreshed.iter();
            let next = refreshed.find(|(one, _)| Arc::ptr_eq(one, credential));
            let values = next.map(|(_, values)| Arc::clone(values));
            let values = values.unwrap_or_else(|| credential.values.load_full());
            (values, credential.dummy.as_str())
        })
        .collect();
    Scrubber::new(values.iter().flat_map(|(values, dummy)| {
        // Each value is text: it has a dummy.
        let texts = [&values.current].into_iter().chain(&values.earlier);
        texts.filter_map(|value| Some((std::str::from_utf8(value.expose()).ok()?, *dummy)))
    }))
}

#[cfg(test)]
pub(super) mod tests;
