//! The credentials of one session: real values, the dummies that stand for them, and their use (SPEC B3,
//! B9).
//!
//! The values are dropped, and overwritten, with the session. They leave this module only for a header
//! field of a request (`selection`) and as strings to search for (`scrubber`).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use codex_network_config::{
    CredentialId, CredentialProvider, CredentialSource, Destination, DestinationScheme, Secret,
    Settings, VariableName,
};
use codex_network_policy::Host;

use super::dummy::{Dummy, DummyError, MAX_CREDENTIALS, MAX_SESSION_BYTES};
use super::scrubber::Scrubber;

/// The method whose answer contains the request's fields (RFC 9110 section 9.3.8).
const TRACE: &str = "TRACE";

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
    scrubber: Arc<ArcSwap<Scrubber>>,
}

/// One value and its dummy.
pub(crate) struct Credential {
    provider: Arc<CredentialProvider>,
    configured: Arc<CredentialProvider>,
    variables: Vec<VariableName>,
    dummy: Dummy,
    values: ArcSwap<Values>,
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

/// The value in force, and the one before: an origin may still answer with it.
struct Values {
    current: Secret,
    previous: Option<Secret>,
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
    /// Makes a dummy for each value. Equal values of one provider have one. Values that cannot have a dummy
    /// are left out; the errors say which ones.
    pub(crate) fn from_supplied(
        supplied: impl IntoIterator<Item = SuppliedCredential>,
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
        let scrubber = Arc::new(ArcSwap::from_pointee(scrubber_for(&credentials)));
        let session = Self {
            all: credentials.clone().into(),
            credentials,
            scrubber,
        };
        (session, errors)
    }

    /// The same as `from_supplied`, for tests.
    #[cfg(test)]
    pub(crate) fn new(
        supplied: impl IntoIterator<Item = SuppliedCredential>,
    ) -> Result<Self, CredentialError> {
        let (all, errors) = Self::from_supplied(supplied);
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

    /// Finds the real values in answers.
    pub(crate) fn scrubber(&self) -> Arc<Scrubber> {
        self.scrubber.load_full()
    }

    /// Takes a new value of a credential. The dummy stays the same (SPEC B9). `false` if the session has no
    /// credential with this name.
    ///
    /// # Errors
    ///
    /// A [`CredentialError`] for a value that is not one of the provider. The old value stays then.
    pub(super) fn refresh(
        &self,
        id: &CredentialId,
        value: &Secret,
    ) -> Result<bool, CredentialError> {
        let mut is_known = false;
        for credential in self.credentials.iter().filter(|one| one.id() == id) {
            is_known = true;
            let current = credential.value();
            if current == *value {
                continue;
            }
            // Only its checks count here.
            Dummy::for_value(value.expose(), &credential.provider.patterns).map_err(|error| {
                CredentialError {
                    id: id.clone(),
                    error,
                }
            })?;
            credential.values.store(Arc::new(Values {
                current: value.clone(),
                previous: Some(current),
            }));
        }
        if is_known {
            self.scrubber.store(Arc::new(scrubber_for(&self.all)));
        }
        Ok(is_known)
    }

    /// Whether a credential of this name may be used there.
    pub(crate) fn is_bound(&self, id: &CredentialId, place: &RequestPlace<'_>) -> bool {
        let mut named = self.credentials.iter().filter(|one| one.id() == id);
        named.any(|credential| credential.is_bound(place))
    }

    /// Whether requests to this server may carry a credential, by whatever path, or could before a reload: its
    /// TLS is intercepted (SPEC M1), and its answers are scrubbed.
    pub(crate) fn reach(&self, scheme: DestinationScheme, host: &Host, port: u16) -> bool {
        self.all.iter().any(|credential| {
            let mut destinations = credential.provider.destinations.iter();
            destinations.any(|destination| destination.reaches(scheme, host, port))
        })
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
                previous: None,
            }),
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

fn scrubber_for(credentials: &[Arc<Credential>]) -> Scrubber {
    let values: Vec<_> = credentials
        .iter()
        .map(|credential| (credential.values.load_full(), credential.dummy.as_str()))
        .collect();
    Scrubber::new(values.iter().flat_map(|(values, dummy)| {
        let all = [Some(&values.current), values.previous.as_ref()];
        // Each value is text: it has a dummy.
        let texts = all.into_iter().flatten();
        texts.filter_map(|value| Some((std::str::from_utf8(value.expose()).ok()?, *dummy)))
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use codex_network_config::{CredentialPattern, built_in_providers};

    use super::*;

    pub(in crate::broker) const GITHUB: &str = "ghp_0123456789abcdefABCDEF0123456789abcd";
    pub(in crate::broker) const OPENAI: &str = "sk-proj-abcDEF123-_456ghiJKLmnoPQRstuVWX";

    pub(in crate::broker) fn provider(name: &str) -> CredentialProvider {
        let mut providers = built_in_providers().into_iter();
        providers
            .find(|provider| provider.id.as_str() == name)
            .expect("a built-in provider")
    }

    pub(in crate::broker) fn supplied(
        provider: CredentialProvider,
        variables: &[&str],
        value: &str,
    ) -> SuppliedCredential {
        let variables = variables.iter().map(|name| VariableName::parse(name));
        let provider = Arc::new(provider);
        SuppliedCredential {
            configured: Arc::clone(&provider),
            provider,
            variables: variables.collect::<Result<_, _>>().expect("names"),
            value: Secret::new(value.as_bytes().to_vec()),
        }
    }

    /// A session with the built-in credentials.
    pub(in crate::broker) fn session() -> SessionCredentials {
        SessionCredentials::new([
            supplied(provider("github"), &["GH_TOKEN", "GITHUB_TOKEN"], GITHUB),
            supplied(provider("openai"), &["OPENAI_API_KEY"], OPENAI),
        ])
        .expect("credentials")
    }

    pub(in crate::broker) fn dummy<'s>(session: &'s SessionCredentials, id: &str) -> &'s str {
        let mut all = session.iter();
        let credential = all.find(|credential| credential.id().as_str() == id);
        credential.expect("a credential").dummy().as_str()
    }

    /// A GET over TLS at port 443.
    pub(in crate::broker) fn place<'a>(host: &'a Host, target: &'a str) -> RequestPlace<'a> {
        RequestPlace {
            scheme: DestinationScheme::Https,
            host,
            port: 443,
            target,
            method: "GET",
        }
    }

    pub(in crate::broker) fn host(text: &str) -> Host {
        Host::parse(text).expect("a host")
    }

    fn scrubbed(session: &SessionCredentials, text: &str) -> Option<String> {
        let clean = session.scrubber().scrub(text.as_bytes())?;
        Some(String::from_utf8(clean).expect("text"))
    }

    #[test]
    fn b9_a_refreshed_value_keeps_its_dummy_and_both_values_are_scrubbed() {
        let session = session();
        let dummy = dummy(&session, "github").to_owned();
        let id = CredentialId::parse("github").expect("a name");
        let renewed = "ghp_zyxwvutsrqponmlkjihgfedcbazyxwvutsrq";
        let value = Secret::new(renewed.as_bytes().to_vec());
        assert_eq!(session.refresh(&id, &value), Ok(true));
        assert_eq!(session.refresh(&id, &value), Ok(true), "the same again");
        assert_eq!(self::dummy(&session, "github"), dummy);
        let current = session.iter().next().expect("a credential").value();
        assert_eq!(current.expose(), renewed.as_bytes());
        for value in [GITHUB, renewed] {
            assert_eq!(scrubbed(&session, value).as_ref(), Some(&dummy));
        }
        let other = CredentialId::parse("other").expect("a name");
        assert_eq!(session.refresh(&other, &value), Ok(false));
        let short = Secret::new(b"short".to_vec());
        let error = session.refresh(&id, &short).expect_err("too short");
        assert_eq!(
            error.to_string(),
            "the value of the credential github is shorter than 8 bytes"
        );
        let current = session.iter().next().expect("a credential").value();
        assert_eq!(current.expose(), renewed.as_bytes());
    }

    #[test]
    fn b9_equal_values_of_a_provider_have_one_dummy_and_others_have_their_own() {
        let session = SessionCredentials::new([
            supplied(provider("github"), &["GH_TOKEN"], GITHUB),
            supplied(provider("github"), &["GITHUB_TOKEN"], GITHUB),
            supplied(provider("github"), &["GITHUB_PAT"], &GITHUB.to_uppercase()),
        ])
        .expect("credentials");
        let variables: Vec<usize> = session.iter().map(|one| one.variables().len()).collect();
        assert_eq!(variables, [2, 1]);
        let dummies: Vec<&str> = session.iter().map(|one| one.dummy().as_str()).collect();
        assert_ne!(dummies[0], dummies[1]);
    }

    #[test]
    fn b9_dummies_of_two_sessions_differ() {
        assert_ne!(dummy(&session(), "github"), dummy(&session(), "github"));
    }

    #[test]
    fn b5_a_value_of_another_form_than_the_patterns_is_not_a_credential() {
        let mut provider = provider("openai");
        provider.patterns = vec![CredentialPattern::parse("sk-[a-z]{40}").expect("a pattern")];
        let supplied = supplied(provider, &["OPENAI_API_KEY"], OPENAI);
        let error = SessionCredentials::new([supplied]).err().expect("an error");
        let text = error.to_string();
        assert!(
            text.ends_with("matches none of the provider's patterns"),
            "{text}"
        );
        assert!(!text.contains("abcDEF"));
    }

    #[test]
    fn b4_no_debug_text_has_a_value() {
        let supplied = supplied(provider("openai"), &["OPENAI_API_KEY"], OPENAI);
        assert!(!format!("{supplied:?}").contains("abcDEF"));
    }

    #[test]
    fn b7_a_credential_is_bound_to_its_destinations_and_methods() {
        let mut limited = provider("openai");
        limited.destinations = ["api.test/v1", "http://127.0.0.1:8080"]
            .map(|text| Destination::parse(text).expect("a destination"))
            .to_vec();
        let credentials = |provider| {
            SessionCredentials::new([supplied(provider, &["KEY"], OPENAI)]).expect("credentials")
        };
        let session = credentials(limited.clone());
        let credential = session.iter().next().expect("a credential");
        let [api, other, loopback] = ["api.test", "other.test", "127.0.0.1"].map(host);
        for (place, expected) in [
            (place(&api, "/v1/models?x"), true),
            (place(&api, "/v1"), true),
            (place(&api, "/v2"), false),
            (place(&api, "/v1/../v2"), false),
            (place(&api, "/v1/%2e%2e/v2"), false),
            (place(&other, "/v1"), false),
            (
                RequestPlace {
                    port: 444,
                    ..place(&api, "/v1")
                },
                false,
            ),
            (
                RequestPlace {
                    scheme: DestinationScheme::Http,
                    ..place(&api, "/v1")
                },
                false,
            ),
            (
                RequestPlace {
                    scheme: DestinationScheme::Http,
                    port: 80,
                    ..place(&api, "/v1")
                },
                false,
            ),
            (
                RequestPlace {
                    method: "TRACE",
                    ..place(&api, "/v1")
                },
                false,
            ),
            (
                RequestPlace {
                    method: "DELETE",
                    ..place(&api, "/v1")
                },
                true,
            ),
            (
                RequestPlace {
                    scheme: DestinationScheme::Http,
                    port: 8080,
                    ..place(&loopback, "/")
                },
                true,
            ),
        ] {
            assert_eq!(credential.is_bound(&place), expected, "{place:?}");
            assert_eq!(
                session.is_bound(credential.id(), &place),
                expected,
                "{place:?}"
            );
        }
        assert!(session.reach(DestinationScheme::Https, &api, 443));
        assert!(!session.reach(DestinationScheme::Https, &other, 443));
        assert!(!session.reach(DestinationScheme::Https, &loopback, 8080));
        limited.methods = Some(vec![
            codex_network_policy::HookMethod::parse("post").expect("a method"),
        ]);
        let session = credentials(limited);
        let credential = session.iter().next().expect("a credential");
        assert!(!credential.is_bound(&place(&api, "/v1")));
        let post = RequestPlace {
            method: "POST",
            ..place(&api, "/v1")
        };
        assert!(credential.is_bound(&post));
    }

    #[test]
    fn b3_uses_are_counted() {
        let session = session();
        let credential = session.iter().next().expect("a credential");
        assert_eq!(credential.usage(), (0, None));
        credential.count_use(1_800_000_000);
        credential.count_use(1_800_000_007);
        assert_eq!(credential.usage(), (2, Some(1_800_000_007)));
    }
}
