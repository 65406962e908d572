//! `explain`: the engine's decision about a described request, as text.
//!
//! The engine judges (SPEC K5). This file reads the question, and says what the decision means and what
//! could still change it. A URL may hold a secret, so no message repeats it.

mod credentials;
mod destination;

use std::net::SocketAddr;

use codex_network_control::message::{
    ExplainQuery, Explained, ExplainedAddress, HeaderField, MissedHook, Rule,
};
use codex_network_engine::{
    AddressKind, EvaluatedAddress, Generation, HypotheticalRequest, Lookup, PredictedAddresses,
    PredictedDecision, SettingsView,
};
use codex_network_policy::{Handling, HookVerdict, Host, Protocol, Reach, Reason};
use destination::{Destination, Stated, destination};

/// Hooks that an answer shows at most.
const MAX_HOOKS: usize = 3;

/// Judges a request by the settings in force, as the clients of `view` see them. `listeners` are the proxy's own, by name.
pub(super) async fn explain(
    view: &SettingsView,
    listeners: &[(&'static str, SocketAddr)],
    query: ExplainQuery,
) -> Result<Explained, String> {
    let generation = view.current();
    let destination = destination(&query.url).map_err(|error| error.to_string())?;
    let request = request(&destination, &query);
    let predicted = view.explain(&generation, &request).await;
    let predicted = predicted.map_err(|error| error.to_string())?;
    let mut explained = Explained {
        host: predicted.host.clone(),
        port: predicted.port,
        protocol: predicted.protocol.audit_name().to_owned(),
        method: predicted.method.clone(),
        detail: predicted.detail.map(str::to_owned),
        addresses: addresses(&predicted),
        hooks: missed_hooks(&generation, &predicted),
        mode: generation.policy().mode().as_str().to_owned(),
        generation: generation.number().get(),
        ..Explained::of(&predicted.explanation)
    };
    match predicted.explanation.decision.reason() {
        Reason::LoopDetected => say_loop(&mut explained, listeners, &predicted),
        Reason::DnsFailure => say_unresolved(&mut explained, &predicted),
        reason => {
            if let Ok(authority) = &destination.authority
                && generation.settings().managed.allowed_domains_only
            {
                explained.remedy =
                    managed_remedy(reason, &authority.host).unwrap_or(explained.remedy);
            }
            explained.notes.extend(bounds(&generation, reason));
        }
    }
    explained.notes.extend(notes(&generation, &predicted));
    explained.notes.extend(credentials::notes(&predicted));
    if let Ok(authority) = &destination.authority {
        let of_sessions = credentials::of_sessions(generation.settings(), &predicted, authority);
        explained.notes.extend(of_sessions);
    }
    explained
        .notes
        .extend(door_notes(&generation, &destination, listeners));
    if let (Ok(authority), Stated::Nothing) = (&destination.authority, destination.stated) {
        let supposed = supposed(destination.protocol, authority.port);
        explained.notes.push(supposed);
    }
    explained.notes.extend(unseen(&query, &predicted));
    Ok(explained)
}

fn request(destination: &Destination, query: &ExplainQuery) -> HypotheticalRequest {
    let given = query.headers.iter();
    let given = given.map(|HeaderField { name, value }| (name.clone(), value.clone()));
    let mut fields: Vec<_> = given.collect();
    if let Some(protocol) = destination.upgrade {
        fields.push(("Connection".to_owned(), "Upgrade".to_owned()));
        fields.push(("Upgrade".to_owned(), protocol.to_owned()));
    }
    HypotheticalRequest {
        protocol: destination.protocol,
        authority: destination.authority.clone(),
        target: destination.target.clone(),
        method: query.method.clone().unwrap_or_else(|| "GET".to_owned()),
        fields,
        lookup: if query.resolve {
            Lookup::Made
        } else {
            Lookup::LeftOut
        },
    }
}

fn say_loop(
    explained: &mut Explained,
    listeners: &[(&'static str, SocketAddr)],
    predicted: &PredictedDecision<'_>,
) {
    if explained.detail.as_deref() == Some("telemetry_collector") {
        "the destination is the collector of the proxy's audit events"
            .clone_into(&mut explained.because);
        "Only the proxy may use it: see `otlp` in [daemon.telemetry]"
            .clone_into(&mut explained.remedy);
        return;
    }
    if explained.detail.is_some() {
        "the upstream proxy that would carry it is this proxy itself"
            .clone_into(&mut explained.because);
        "Change HTTP_PROXY and the related variables in the environment of the proxy, or set allow_upstream_proxy = false"
            .clone_into(&mut explained.remedy);
        return;
    }
    // The scope of a link-local address is not part of the explanation.
    let unscoped = |address: SocketAddr| (address.ip(), address.port());
    let reached = predicted.explanation.listener.map(unscoped);
    let is_reached = |(_, address): &&(_, SocketAddr)| Some(unscoped(*address)) == reached;
    if let Some((name, _)) = listeners.iter().find(is_reached) {
        explained.because = format!("this is the proxy's own {name} listener");
    }
}

fn say_unresolved(explained: &mut Explained, predicted: &PredictedDecision<'_>) {
    if let PredictedAddresses::Unresolved(error) = &predicted.addresses {
        explained.because = format!(
            "the policy allows {}, but its name does not resolve: {error}",
            predicted.host
        );
    }
    "Check the name, and the name servers of the proxy ([daemon.resolver], else /etc/resolv.conf)"
        .clone_into(&mut explained.remedy);
}

fn addresses(predicted: &PredictedDecision<'_>) -> Option<Vec<ExplainedAddress>> {
    let explained = |evaluated: &EvaluatedAddress| {
        let (standing, rule) = match &evaluated.kind {
            AddressKind::Public => ("public", None),
            AddressKind::Local(_) => ("local", None),
            AddressKind::ThisMachine => ("this_machine", None),
            AddressKind::OwnListener => ("own_listener", None),
            AddressKind::Denied(rule) => ("denied", rule.as_ref()),
        };
        ExplainedAddress {
            address: evaluated.address.to_string(),
            standing: standing.to_owned(),
            decision: evaluated.decision.verdict().as_str().to_owned(),
            reason: evaluated.decision.reason().as_str().to_owned(),
            rule: rule.map(Rule::from),
        }
    };
    match &predicted.addresses {
        PredictedAddresses::Resolved(addresses) => Some(addresses.iter().map(explained).collect()),
        PredictedAddresses::Unresolved(_) => Some(Vec::new()),
        _ => None,
    }
}

fn missed_hooks(generation: &Generation, predicted: &PredictedDecision<'_>) -> Vec<MissedHook> {
    let hooks = &generation.settings().mitm.hooks;
    let nearest = predicted.misses.iter().take(MAX_HOOKS);
    let missed = nearest.filter_map(|miss| {
        let hook = hooks.get(miss.hook)?;
        Some(MissedHook {
            name: hook.name.clone(),
            place: hook.written_at.as_ref().map(ToString::to_string),
            missed: miss.clauses.iter().map(ToString::to_string).collect(),
        })
    });
    missed.collect()
}

/// Facts that the decision leaves open, and changes to the request on its way.
fn notes(generation: &Generation, predicted: &PredictedDecision<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let is_inside = predicted.protocol == Protocol::Https;
    if predicted.handling == Handling::Intercept {
        let note = "TLS is intercepted, and every request inside is evaluated by itself; bytes that are neither TLS nor HTTP are refused (mitm_required), and so is TLS for another host (policy_denied)";
        notes.push(note.to_owned());
    }
    if let HookVerdict::Matched(id) = predicted.hook
        && let Some(hook) = generation.settings().mitm.hooks.get(id)
    {
        let place = hook.written_at.as_ref().map(|at| format!(" ({at})"));
        let place = place.unwrap_or_default();
        notes.push(format!("the hook {}{place} matches", hook.name));
    }
    let further = predicted.misses.len().saturating_sub(MAX_HOOKS);
    if further > 0 {
        notes.push(format!("{further} further hooks do not match either"));
    }
    if !predicted.removed.is_empty() {
        let names = predicted.removed.join(", ");
        notes.push(format!("the proxy removes these fields: {names}"));
    }
    if let PredictedAddresses::NotLookedUp(reach) = predicted.addresses {
        let checked = address_note(reach);
        let order = if is_inside && !predicted.explanation.decision.is_allow() {
            ", before the request inside is evaluated"
        } else {
            ""
        };
        notes.push(format!(
            "{checked}{order}; they were not looked at here (--resolve looks)"
        ));
    }
    notes
}

/// The effect of the settings of a door.
fn door_notes(
    generation: &Generation,
    destination: &Destination,
    listeners: &[(&'static str, SocketAddr)],
) -> Option<String> {
    let is_udp = destination.protocol == Protocol::Socks5Udp;
    let is_socks = is_udp || destination.protocol == Protocol::Socks5Tcp;
    if is_socks && !listeners.iter().any(|(name, _)| *name == "socks5") {
        return Some("the proxy has no SOCKS5 listener (enable_socks5)".to_owned());
    }
    let note = "UDP is switched off (enable_socks5_udp = false): clients get the reply 0x07";
    (is_udp && !generation.settings().socks5_udp).then(|| note.to_owned())
}

/// The parts of the question that the proxy would not see.
fn unseen(query: &ExplainQuery, predicted: &PredictedDecision<'_>) -> Option<String> {
    let is_given = query.method.is_some() || !query.headers.is_empty();
    let is_seen = predicted.method.is_some() || predicted.handling == Handling::Intercept;
    let note = "method and header fields are inside the tunnel, where they are not seen: the answer is the same for all of them";
    (is_given && !is_seen).then(|| note.to_owned())
}

/// How to lift a refusal where the requirements alone fill the allow list (SPEC C6).
fn managed_remedy(reason: Reason, host: &Host) -> Option<String> {
    let ask = format!(
        "ask the administrator of requirements.toml to add \"{host}\" to its allowed_domains: what configurations allow \
         does not count"
    );
    match reason {
        Reason::NotAllowed => Some(format!("To allow it, {ask}")),
        // A name is not lifted: its addresses are.
        Reason::NotAllowedLocal if host.ip().is_some() || host.is_localhost() => Some(format!(
            "To allow it, set allow_local_binding = true, or {ask}"
        )),
        _ => None,
    }
}

/// The requirements that prevent the remedy of a refusal (SPEC C6).
fn bounds(generation: &Generation, reason: Reason) -> impl Iterator<Item = String> {
    let keys: &[&str] = match reason {
        Reason::NotAllowed => &["allowed_domains"],
        Reason::NotAllowedLocal => &["allowed_domains", "allow_local_binding"],
        Reason::MethodNotAllowed | Reason::MitmRequired => &["mode"],
        Reason::ProxyDisabled => &["enabled"],
        _ => &[],
    };
    let pins = generation.settings().managed.pins();
    let pins = pins.iter().filter(|pin| keys.contains(&pin.key));
    pins.map(|pin| {
        format!(
            "{} may only be {} while {} requires it",
            pin.key, pin.allowed, pin.line
        )
    })
}

fn address_note(reach: Reach) -> &'static str {
    match reach {
        Reach::Any => "its addresses are checked against the deny list when it is dialled",
        Reach::Loopback => {
            "its addresses are checked when it is dialled: all of them must be loopback or public"
        }
        Reach::Public => {
            "its addresses are checked when it is dialled: if any of them is local, private or denied, the connection is refused"
        }
    }
}

fn supposed(protocol: Protocol, port: u16) -> String {
    let how = match protocol {
        Protocol::Http => "a plain HTTP request",
        _ => "a tunnel (CONNECT), as https makes it,",
    };
    format!("evaluated as {how} to port {port}; give a URL to ask about another way")
}
