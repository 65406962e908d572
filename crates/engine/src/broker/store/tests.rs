//! The credentials of a session, their refresh, and where they may go.

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

fn renewed(number: u8) -> String {
    format!("ghp_{number:02}zyxwvutsrqponmlkjihgfedcbazyxwvuts")
}

/// Gives `github` another value.
fn refresh(session: &SessionCredentials, value: &str) {
    let id = CredentialId::parse("github").expect("a name");
    let value = Secret::new(value.as_bytes().to_vec());
    assert_eq!(session.refresh(&id, &value), Ok(true));
}

fn scrubbed(session: &SessionCredentials, text: &str) -> Option<String> {
    let clean = session.scrubber().load().scrub(text.as_bytes())?;
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
fn b12_the_two_values_before_the_one_in_force_are_scrubbed() {
    let session = session();
    let dummy = dummy(&session, "github").to_owned();
    let values: Vec<String> = (0..4).map(renewed).collect();
    for value in &values {
        refresh(&session, value);
    }
    for (value, expected) in values
        .iter()
        .zip([None, Some(&dummy), Some(&dummy), Some(&dummy)])
    {
        assert_eq!(scrubbed(&session, value).as_ref(), expected, "{value}");
    }
    refresh(&session, &values[2]);
    for value in &values[1..] {
        assert_eq!(scrubbed(&session, value), Some(dummy.clone()), "{value}");
    }
}

#[test]
fn b12_no_request_can_carry_a_refreshed_value_before_the_scrubber_finds_it() {
    let session = session();
    let github = session.iter().next().expect("a credential");
    std::thread::scope(|scope| {
        for number in 0..20 {
            let before = github.value();
            let session = &session;
            // It reads as a request does: first the value, then the scrubber.
            let reader = scope.spawn(move || {
                let begun = std::time::Instant::now();
                while github.value() == before {
                    assert!(begun.elapsed().as_secs() < 60, "it is not refreshed");
                    std::thread::yield_now();
                }
                let value = github.value();
                scrubbed(session, std::str::from_utf8(value.expose()).expect("text"))
            });
            refresh(session, &renewed(number));
            let clean = reader.join().expect("the reader");
            assert_eq!(clean.as_deref(), Some(dummy(session, "github")));
        }
    });
}

#[test]
fn b12_answers_in_plain_http_are_still_scrubbed_after_the_value_was_sent_there() {
    let mut plain = provider("openai");
    let destination = "http://127.0.0.1:8080";
    plain.destinations = vec![Destination::parse(destination).expect("a destination")];
    let session = SessionCredentials::new([supplied(plain, &["KEY"], OPENAI)]);
    let session = session.expect("a credential");
    let loopback = host("127.0.0.1");
    let place = RequestPlace {
        scheme: DestinationScheme::Http,
        port: 8080,
        ..place(&loopback, "/")
    };
    let is_reached = || session.reach(DestinationScheme::Http, &loopback, 8080, false);
    let bearer = format!("Bearer {}", dummy(&session, "openai"));
    for (field, expected) in [("Bearer other", false), (&bearer, true)] {
        let mut fields = http::HeaderMap::new();
        fields.insert("authorization", field.parse().expect("a field"));
        session.inject(&mut fields, &place).expect("a request");
        assert_eq!(is_reached(), expected, "{field}");
    }
}

#[test]
fn b13_credentials_whose_provider_a_reload_removed_are_not_kept() {
    let session = session();
    let host = host("api.openai.com");
    let place = place(&host, "/v1");
    let after_reload = |is_kept: fn(&CredentialId) -> bool| {
        let providers = session.all.iter().map(|one| one.provider().clone());
        let kept = providers.filter(|provider| is_kept(&provider.id));
        session.under(&Settings {
            credential_providers: kept.collect(),
            ..Settings::default()
        })
    };
    let keeps = |all: SessionCredentials| all.keep_bound(&session, &place);
    assert!(keeps(after_reload(|_| true)));
    assert!(
        keeps(after_reload(|id| id.as_str() == "openai")),
        "the other is not bound there"
    );
    assert!(!keeps(after_reload(|id| id.as_str() == "github")));
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
    assert!(session.reach(DestinationScheme::Https, &api, 443, false));
    assert!(!session.reach(DestinationScheme::Https, &other, 443, false));
    assert!(!session.reach(DestinationScheme::Https, &loopback, 8080, false));
    assert!(!session.reach(DestinationScheme::Http, &loopback, 8080, false));
    assert!(session.reach(DestinationScheme::Http, &loopback, 8080, true));
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
