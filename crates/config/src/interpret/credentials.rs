//! `credentials.NAME`: the providers of credentials beyond the built-in ones (SPEC B5).
//!
//! A later layer wins over an earlier one, variable by variable, and both win over the built-in providers.
//! A configuration names a source and never contains a value.

mod provider;

use std::collections::{BTreeMap, HashSet};

use codex_network_policy::{
    Facts, Host, HostCredentials, Interception, InterceptionSupport, NoLocalAddresses,
    NoProxyListeners, Reason, Request, RequestKind,
};
use provider::WrittenProvider;

use crate::catalogue::Key;
use crate::credentials::{
    CredentialId, CredentialProvider, Destination, DestinationHost, DestinationScheme,
    VariableName, built_in_providers,
};
use crate::diagnostic::{Problems, quoted};
use crate::dialect::RawSettings;
use crate::read;
use crate::settings::Settings;
use crate::text::TextSpan;
use crate::toml_tree::TomlTable;

/// The providers in force: those of the configuration, then the built-in ones for other variables. None if
/// the broker is off. `settings` has the policy and the switches of the same table.
pub(super) fn interpret(
    raw: &RawSettings<'_>,
    settings: &Settings,
    problems: &mut Problems<'_>,
) -> Vec<CredentialProvider> {
    let setting = raw.get(Key::CREDENTIALS);
    let table = setting.and_then(|setting| read::table(setting, problems));
    let entries = table.into_iter().flat_map(TomlTable::iter);
    let mut written: Vec<WrittenProvider> = entries
        .filter_map(|entry| provider::provider(entry, problems))
        .collect();
    keep_later_variables(&mut written, problems);
    check_plaintext(&written, settings, problems);
    if !settings.credential_broker {
        if let Some(setting) = setting.filter(|_| !written.is_empty()) {
            let message = "the credentials have no effect: the broker is off";
            problems.warning(setting.at, message, "write `credential_broker = true`");
        }
        return Vec::new();
    }
    if settings.policy.interception() == Interception::Forbidden
        && let Some(mitm) = raw.get(Key::MITM)
    {
        let message = "credentials are injected only where TLS is intercepted, which this forbids";
        problems.warning(
            mitm.at,
            message,
            "leave it out, or set `credential_broker = false`",
        );
    }
    for (destination, at) in written.iter().flat_map(|one| &one.destinations) {
        warn_if_refused(destination, *at, settings, problems);
    }
    let mut providers: Vec<CredentialProvider> =
        written.into_iter().map(|one| one.provider).collect();
    let ids: HashSet<CredentialId> = providers.iter().map(|one| one.id.clone()).collect();
    let variables = providers.iter().flat_map(|one| &one.variables);
    let taken: HashSet<VariableName> = variables.cloned().collect();
    for mut built_in in built_in_providers() {
        built_in
            .variables
            .retain(|variable| !taken.contains(variable));
        if !ids.contains(&built_in.id) && !built_in.variables.is_empty() {
            providers.push(built_in);
        }
    }
    providers
}

/// Gives each variable to the provider of the latest layer that names it. Providers without a variable are
/// left out.
fn keep_later_variables(written: &mut Vec<WrittenProvider>, problems: &mut Problems<'_>) {
    let mut owners: BTreeMap<VariableName, (usize, TextSpan)> = BTreeMap::new();
    for (index, one) in written.iter().enumerate() {
        for (variable, at) in one.provider.variables.iter().zip(&one.variables) {
            let Some((other, place)) = owners.get(variable).copied() else {
                owners.insert(variable.clone(), (index, *at));
                continue;
            };
            if place.text == at.text {
                let (first, second) = if place < *at {
                    (place, *at)
                } else {
                    (*at, place)
                };
                let message = format!(
                    "the variable {} has two credentials: {} and {} ({})",
                    quoted(variable.as_str()),
                    quoted(written[other].provider.id.as_str()),
                    quoted(one.provider.id.as_str()),
                    problems.texts.file_and_line(first)
                );
                problems.error(second, &message, "keep one of them");
            } else if place.text < at.text {
                owners.insert(variable.clone(), (index, *at));
            }
        }
    }
    for (index, one) in written.iter_mut().enumerate() {
        let is_own = |variable: &VariableName| {
            owners
                .get(variable)
                .is_some_and(|(owner, _)| *owner == index)
        };
        one.provider.variables.retain(is_own);
    }
    written.retain(|one| !one.provider.variables.is_empty());
}

/// Plain HTTP to another machine needs the opt-in, and so does any injection into it (SPEC B3).
fn check_plaintext(written: &[WrittenProvider], settings: &Settings, problems: &mut Problems<'_>) {
    if settings.plaintext_credential_injection {
        return;
    }
    let destinations = written.iter().flat_map(|one| &one.destinations);
    for (destination, at) in destinations {
        if destination.scheme() != DestinationScheme::Http {
            continue;
        }
        let message = format!(
            "{} is plain HTTP, in which no credential is sent",
            quoted(&destination.to_string())
        );
        let help = format!(
            "write `https://`; only `{} = true` would permit it",
            Key::PLAINTEXT_INJECTION.name()
        );
        if destination.is_loopback() {
            problems.warning(*at, &message, &help);
        } else {
            problems.error(*at, &message, &help);
        }
    }
}

/// A destination that the policy refuses is never reached with the credential.
fn warn_if_refused(
    destination: &Destination,
    at: TextSpan,
    settings: &Settings,
    problems: &mut Problems<'_>,
) {
    let DestinationHost::Exact(host) = destination.hosts() else {
        return;
    };
    let Some(reason) = refusal(host, destination.port(), settings) else {
        return;
    };
    let message = format!(
        "the policy refuses {} ({}), so the credential never goes there",
        quoted(&destination.to_string()),
        reason.as_str()
    );
    let help = match reason {
        Reason::NotAllowed => "add the host to those that are allowed",
        _ => "",
    };
    problems.warning(at, &message, help);
}

/// Why the policy refuses a tunnel to a host, if the lists do.
fn refusal(host: &Host, port: u16, settings: &Settings) -> Option<Reason> {
    let request = Request {
        host,
        port,
        kind: &RequestKind::HttpConnect,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            credentials: HostCredentials::None,
        },
    };
    let decision = settings.policy.explain(&request).decision;
    let by_lists = matches!(
        decision.reason(),
        Reason::Denied | Reason::NotAllowed | Reason::NotAllowedLocal
    );
    (!decision.is_allow() && by_lists).then(|| decision.reason())
}
