//! Puts real values in the place of dummies, in the fields of a request to a destination (SPEC B8).
//!
//! Only a whole value is replaced, in a form that the provider allows: `Bearer`, `token`, `Basic`, or a field
//! of its own. Everything else stays as it is; `tripwire` judges dummies that remain.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use codex_network_config::{CredentialId, Placement};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::store::{Credential, RequestPlace, SessionCredentials};

/// Base64 with or without padding, as clients send it.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a request must not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InjectionError {
    /// The provider requires its credential there, and the request does not present it.
    #[error("a request to this place needs the credential {0}")]
    Missing(CredentialId),
    /// The value cannot be written into a field.
    #[error("the value of the credential {0} cannot be written into a header field")]
    Unwritable(CredentialId),
}

impl SessionCredentials {
    /// Replaces each dummy that is bound to this place and that a field presents as its provider says. Gives
    /// the credentials whose values the fields now contain.
    ///
    /// # Errors
    ///
    /// An [`InjectionError`] if the request must not be sent. The fields may have been changed then.
    pub(crate) fn inject(
        &self,
        fields: &mut HeaderMap,
        place: &RequestPlace<'_>,
    ) -> Result<Vec<&Credential>, InjectionError> {
        let bound: Vec<&Credential> = self.iter().filter(|one| one.is_bound(place)).collect();
        let mut used: Vec<&Credential> = Vec::new();
        for (name, value) in fields.iter_mut() {
            // Several may stand in one field: the user name and the password of Basic.
            for credential in &bound {
                let Some(replaced) = credential.replace(name, value.as_bytes()) else {
                    continue;
                };
                let mut replaced = HeaderValue::from_bytes(&replaced)
                    .map_err(|_| InjectionError::Unwritable(credential.id().clone()))?;
                replaced.set_sensitive(true);
                *value = replaced;
                credential.note_sent(place);
                if !used.iter().any(|one| std::ptr::eq(*one, *credential)) {
                    used.push(credential);
                }
            }
        }
        let missing = self.iter().find(|credential| {
            let is_used = used.iter().any(|one| one.id() == credential.id());
            credential.provider().require && !is_used && credential.may_cover(place)
        });
        match missing {
            Some(credential) => Err(InjectionError::Missing(credential.id().clone())),
            None => Ok(used),
        }
    }
}

impl Credential {
    /// The field with the real value; `None` if it does not present this dummy.
    fn replace(&self, name: &HeaderName, field: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut placements = self.provider().placements.iter();
        placements.find_map(|placement| match placement {
            Placement::Header { name: own, prefix } => {
                let is_own = name.as_str() == own.as_str();
                let presented = field.strip_prefix(prefix.as_bytes()).filter(|_| is_own)?;
                self.is_dummy(presented)
                    .then(|| joined(prefix.as_bytes(), self.value().expose()))
            }
            Placement::Bearer => self.replace_scheme(name, field, "Bearer"),
            Placement::Token => self.replace_scheme(name, field, "token"),
            Placement::Basic { username } => self.replace_basic(name, field, username.as_deref()),
        })
    }

    fn replace_scheme(
        &self,
        name: &HeaderName,
        field: &[u8],
        scheme: &str,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (front, presented) = after_scheme(name, field, scheme)?;
        self.is_dummy(presented)
            .then(|| joined(front, self.value().expose()))
    }

    fn replace_basic(
        &self,
        name: &HeaderName,
        field: &[u8],
        username: Option<&str>,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (front, presented) = after_scheme(name, field, "Basic")?;
        // It may already contain another real value.
        let plain = Zeroizing::new(BASIC.decode(presented).ok()?);
        let colon = plain.iter().position(|&byte| byte == b':')?;
        let (user, password) = (&plain[..colon], &plain[colon + 1..]);
        let is_dummy = [user, password].map(|part| self.is_dummy(part));
        if is_dummy == [false; 2] {
            return None;
        }
        let value = self.value();
        let replace = |part, is_dummy| if is_dummy { value.expose() } else { part };
        let (user, password) = match username {
            Some(username) => (username.as_bytes(), value.expose()),
            None => (replace(user, is_dummy[0]), replace(password, is_dummy[1])),
        };
        let mut plain = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.len()));
        plain.extend_from_slice(user);
        plain.push(b':');
        plain.extend_from_slice(password);
        let encoded = Zeroizing::new(BASIC.encode(&*plain));
        Some(joined(front, encoded.as_bytes()))
    }

    fn is_dummy(&self, text: &[u8]) -> bool {
        text == self.dummy().as_str().as_bytes()
    }
}

/// An `Authorization` field of this scheme, whose name has no case: the part up to the credentials, and the
/// credentials (RFC 9110 section 11.4).
fn after_scheme<'f>(
    name: &HeaderName,
    field: &'f [u8],
    scheme: &str,
) -> Option<(&'f [u8], &'f [u8])> {
    if name != AUTHORIZATION || field.len() <= scheme.len() {
        return None;
    }
    let (written, rest) = field.split_at(scheme.len());
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    let is_it = written.eq_ignore_ascii_case(scheme.as_bytes()) && spaces > 0;
    is_it.then(|| field.split_at(scheme.len() + spaces))
}

/// In one piece, since a vector that grows leaves a copy behind.
fn joined(front: &[u8], value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut joined = Zeroizing::new(Vec::with_capacity(front.len() + value.len()));
    joined.extend_from_slice(front);
    joined.extend_from_slice(value);
    joined
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use codex_network_policy::HeaderNameText;

    use super::super::store::tests::{
        GITHUB, OPENAI, dummy, host, place, provider, session, supplied,
    };
    use super::*;

    /// The fields after the injection at this host, and the credentials that were used.
    fn inject(
        session: &SessionCredentials,
        at: &str,
        fields: &[(&str, &str)],
    ) -> Result<(Vec<String>, Vec<String>), InjectionError> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            map.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let host = host(at);
        let used = session.inject(&mut map, &place(&host, "/"))?;
        let used = used.iter().map(|one| one.id().to_string()).collect();
        for value in map.values() {
            let is_real = [GITHUB, OPENAI]
                .iter()
                .any(|real| value == format!("Bearer {real}").as_str());
            assert!(!is_real || value.is_sensitive());
        }
        let values = map
            .values()
            .map(|value| value.to_str().expect("text").to_owned());
        Ok((values.collect(), used))
    }

    /// One `Authorization` field after the injection at this host.
    fn authorization(session: &SessionCredentials, at: &str, value: &str) -> String {
        let (values, _) = inject(session, at, &[("authorization", value)]).expect("a request");
        values[0].clone()
    }

    #[test]
    fn b8_a_dummy_becomes_the_value_in_each_form_that_clients_send() {
        let session = session();
        let dummy = dummy(&session, "github");
        for at in [
            "github.com",
            "api.github.com",
            "uploads.github.com",
            "x.ghe.com",
        ] {
            for (presented, expected) in [
                (format!("Bearer {dummy}"), format!("Bearer {GITHUB}")),
                (format!("bearer  {dummy}"), format!("bearer  {GITHUB}")),
                (format!("token {dummy}"), format!("token {GITHUB}")),
                (
                    format!(
                        "Basic {}",
                        STANDARD.encode(format!("x-access-token:{dummy}"))
                    ),
                    format!(
                        "Basic {}",
                        STANDARD.encode(format!("x-access-token:{GITHUB}"))
                    ),
                ),
                (
                    format!(
                        "basic {}",
                        STANDARD_NO_PAD.encode(format!("{dummy}:x-oauth-basic"))
                    ),
                    format!(
                        "basic {}",
                        STANDARD.encode(format!("{GITHUB}:x-oauth-basic"))
                    ),
                ),
                (
                    format!("Basic {}", STANDARD.encode(format!("{dummy}:{dummy}"))),
                    format!("Basic {}", STANDARD.encode(format!("{GITHUB}:{GITHUB}"))),
                ),
                (
                    format!("Basic {}", STANDARD.encode(format!("{dummy}:"))),
                    format!("Basic {}", STANDARD.encode(format!("{GITHUB}:"))),
                ),
            ] {
                assert_eq!(
                    authorization(&session, at, &presented),
                    expected,
                    "{presented}"
                );
            }
        }
    }

    #[test]
    fn b8_anything_else_is_untouched() {
        let session = session();
        let dummy = dummy(&session, "github");
        let mut longer = dummy.to_owned();
        longer.push('x');
        for presented in [
            "Bearer other".to_owned(),
            format!("Bearer {GITHUB}x"),
            format!("Bearer {longer}"),
            format!("Bearer {}", &dummy[1..]),
            format!("Bearer {}", dummy.to_uppercase()),
            format!("Bearer {dummy}, Bearer {dummy}"),
            format!("Bearer {dummy} {dummy}"),
            format!("Bearer\t{dummy}"),
            format!("Bearer{dummy}"),
            format!("Digest {dummy}"),
            dummy.to_owned(),
            format!("Basic {dummy}"),
            format!("Basic {}", STANDARD.encode(dummy)),
            format!("Basic {}", STANDARD.encode(format!("a:b:{dummy}"))),
            format!("Basic {}", STANDARD.encode(format!("a:{dummy} "))),
            format!("Basic {}", STANDARD.encode(format!("x{dummy}:a"))),
            format!("Bearer {}", STANDARD.encode(dummy)),
        ] {
            let (values, used) = inject(
                &session,
                "api.github.com",
                &[
                    ("authorization", &presented),
                    ("x-token", &format!("Bearer {dummy}")),
                ],
            )
            .expect("a request");
            assert_eq!(values, [presented, format!("Bearer {dummy}")]);
            assert!(used.is_empty());
        }
        // At another place, and in a form that the provider does not allow.
        for (id, at, scheme) in [
            ("github", "api.openai.com", "Bearer"),
            ("github", "ghe.com", "Bearer"),
            ("openai", "api.github.com", "Bearer"),
            ("openai", "api.openai.com", "token"),
        ] {
            let presented = format!("{scheme} {}", dummy_of(&session, id));
            assert_eq!(authorization(&session, at, &presented), presented);
        }
    }

    fn dummy_of<'s>(session: &'s SessionCredentials, id: &str) -> &'s str {
        dummy(session, id)
    }

    #[test]
    fn b8_the_dummy_of_another_session_is_untouched() {
        let presented = format!("Bearer {}", dummy(&session(), "github"));
        assert_eq!(
            authorization(&session(), "github.com", &presented),
            presented
        );
    }

    #[test]
    fn b8_a_field_of_its_own_is_the_prefix_and_the_dummy() {
        let mut keyed = provider("openai");
        let header = |name, prefix: &str| Placement::Header {
            name: HeaderNameText::parse(name).expect("a name"),
            prefix: prefix.to_owned(),
        };
        keyed.placements = vec![header("X-Api-Key", ""), header("authorization", "Key=")];
        let session = SessionCredentials::new([supplied(keyed, &["KEY"], OPENAI)]).expect("one");
        let dummy = dummy(&session, "openai");
        let (values, used) = inject(
            &session,
            "api.openai.com",
            &[
                ("x-api-key", dummy),
                ("authorization", &format!("Key={dummy}")),
                ("authorization", &format!("key={dummy}")),
                ("x-other", dummy),
            ],
        )
        .expect("a request");
        assert_eq!(used, ["openai"], "once");
        let mut values = values;
        values.sort();
        let mut expected = vec![
            OPENAI.to_owned(),
            format!("Key={OPENAI}"),
            format!("key={dummy}"),
            dummy.to_owned(),
        ];
        expected.sort();
        assert_eq!(values, expected);
    }

    #[test]
    fn b8_one_field_may_present_two_credentials() {
        let mut one = provider("github");
        one.placements = vec![Placement::Basic { username: None }];
        let mut other = one.clone();
        other.id = CredentialId::parse("other").expect("a name");
        let session = SessionCredentials::new([
            supplied(one, &["USER_KEY"], GITHUB),
            supplied(other, &["PASS_KEY"], OPENAI),
        ])
        .expect("credentials");
        let both = [dummy(&session, "github"), dummy(&session, "other")].join(":");
        let presented = format!("Basic {}", STANDARD.encode(both));
        let expected = format!("Basic {}", STANDARD.encode([GITHUB, OPENAI].join(":")));
        assert_eq!(authorization(&session, "github.com", &presented), expected);
    }

    #[test]
    fn b8_a_user_name_of_the_provider_stands_beside_the_value() {
        let mut named = provider("github");
        let username = Some("__token__".to_owned());
        named.placements = vec![Placement::Basic { username }];
        let session = SessionCredentials::new([supplied(named, &["KEY"], GITHUB)]).expect("one");
        let dummy = dummy(&session, "github");
        for presented in [
            format!("me:{dummy}"),
            format!("{dummy}:"),
            format!("{dummy}:{dummy}"),
        ] {
            let presented = format!("Basic {}", STANDARD.encode(presented));
            let expected = format!("Basic {}", STANDARD.encode(format!("__token__:{GITHUB}")));
            assert_eq!(authorization(&session, "github.com", &presented), expected);
        }
    }

    #[test]
    fn b8_a_request_without_a_credential_passes_unless_it_is_required() {
        let fields = [("accept", "*/*"), ("authorization", "Bearer other")];
        assert!(inject(&session(), "github.com", &fields).is_ok());
        let mut required = provider("github");
        required.require = true;
        let session = SessionCredentials::new([supplied(required, &["KEY"], GITHUB)]).expect("one");
        let id = CredentialId::parse("github").expect("a name");
        let refused = inject(&session, "github.com", &fields);
        assert_eq!(refused, Err(InjectionError::Missing(id)));
        assert!(inject(&session, "example.com", &fields).is_ok());
        let bearer = format!("Bearer {}", dummy(&session, "github"));
        let fields = [("authorization", &*bearer)];
        assert!(inject(&session, "github.com", &fields).is_ok());
    }

    #[test]
    fn b8_a_path_that_could_be_read_in_two_ways_passes_by_no_required_credential() {
        let mut required = provider("github");
        required.require = true;
        let below =
            codex_network_config::Destination::parse("https://b.test/need").expect("a destination");
        required.destinations = vec![below];
        let session = SessionCredentials::new([supplied(required, &["KEY"], GITHUB)]).expect("one");
        let at = host("b.test");
        for (target, is_required) in [
            ("/need/x", true),
            ("/need", true),
            ("/n/../need/x", true),
            ("//need/x", true),
            ("/./need/x", true),
            ("/n%2f..%2fneed/x", true),
            ("/other", false),
            ("/needs", false),
            ("/", false),
        ] {
            let passed = session.inject(&mut HeaderMap::new(), &place(&at, target));
            assert_eq!(passed.is_err(), is_required, "{target}");
        }
    }
}
