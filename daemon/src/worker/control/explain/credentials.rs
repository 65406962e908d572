//! Whether a request could carry the credentials of a session (SPEC B8, B11), as notes.

use codex_network_config::{DestinationScheme, Settings};
use codex_network_engine::{CredentialFitness, PredictedCredential, PredictedDecision};
use codex_network_policy::{Authority, Protocol};

/// Destinations that a note shows at most.
const MAX_DESTINATIONS: usize = 3;

/// Whether the request would carry each credential of the session, if the proxy would read it.
pub(super) fn notes(predicted: &PredictedDecision<'_>) -> Vec<String> {
    if !predicted.explanation.decision.is_allow() {
        return Vec::new();
    }
    predicted.credentials.iter().map(note).collect()
}

fn note(credential: &PredictedCredential) -> String {
    let id = &credential.id;
    let why = match credential.fitness {
        CredentialFitness::Fits => {
            return format!(
                "the credential {id} belongs there: a request that presents its dummy carries the real value"
            );
        }
        CredentialFitness::OtherMethod => "does not go with this method".to_owned(),
        CredentialFitness::OtherPath | CredentialFitness::OtherServer => {
            format!("goes only to {}", destinations(credential))
        }
    };
    format!("the credential {id} {why}: a request with its dummy is refused (credential_unbound)")
}

fn destinations(credential: &PredictedCredential) -> String {
    let all = &credential.destinations;
    let shown: Vec<String> = all
        .iter()
        .take(MAX_DESTINATIONS)
        .map(ToString::to_string)
        .collect();
    match all.len().saturating_sub(MAX_DESTINATIONS) {
        _ if all.is_empty() => "no destination".to_owned(),
        0 => shown.join(" and "),
        further => format!("{} and {further} more", shown.join(", ")),
    }
}

/// The credentials that sessions may send to this server, for a question that is not about a session.
pub(super) fn of_sessions(
    settings: &Settings,
    predicted: &PredictedDecision<'_>,
    authority: &Authority,
) -> Option<String> {
    let is_allowed = predicted.explanation.decision.is_allow();
    if !is_allowed || !predicted.credentials.is_empty() {
        return None;
    }
    let scheme = match predicted.protocol {
        Protocol::Http if !settings.plaintext_credential_injection => return None,
        Protocol::Http => DestinationScheme::Http,
        Protocol::Socks5Udp | Protocol::Dns => return None,
        _ => DestinationScheme::Https,
    };
    let providers = settings.credential_providers.iter().filter(|provider| {
        let mut destinations = provider.destinations.iter();
        destinations.any(|one| one.reaches(scheme, &authority.host, authority.port))
    });
    let ids: Vec<&str> = providers.map(|provider| provider.id.as_str()).collect();
    (!ids.is_empty()).then(|| {
        format!(
            "sessions that hold this credential may send it there, inside intercepted TLS: {} (--session judges as one of \
             them)",
            ids.join(", ")
        )
    })
}
