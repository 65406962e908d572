//! `proxyctl status`.

use codex_network_control::Client;
use codex_network_control::message::{
    Fingerprints, LastReload, Listener, ReloadOutcome, Role, Status,
};
use serde::Serialize;

use crate::failure::Failure;
use crate::listener::AnsweringProxy;
use crate::output::{Output, OutputFormat, Tone, ago, counted, grouped, printable, span, utc};
use crate::{capabilities, name_servers};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let status = client.status().await?;
    let proxy = AnsweringProxy::of(client);
    if output.format() == OutputFormat::Json {
        let answer = StatusAnswer {
            status: &status,
            answered_by: &proxy,
        };
        return Ok(output.json(&answer)?);
    }
    let title = format!("codex-network-proxy {}", printable(&status.version));
    let title = output.paint(Tone::Heading, &title);
    output.sentence(&format!(
        "{title}, up {}, since {}",
        span(status.uptime),
        utc(status.started)
    ))?;
    let mut rows = vec![("answered by", printable(&proxy.to_string()))];
    rows.extend(continued("process", status.roles.iter().map(describe_role)));
    rows.push(("policy", policy(output, &status)));
    rows.push(("settings", settings(&status)));
    let fingerprints = status.fingerprints.as_ref().map(fingerprints);
    rows.extend(continued("", fingerprints.into_iter()));
    rows.extend(continued("degraded", degraded(&status)));
    rows.extend(
        status
            .last_reload
            .iter()
            .flat_map(|last| last_reload(output, last)),
    );
    rows.extend(continued(
        "listening",
        status.listeners.iter().map(listener),
    ));
    let counters = status.counters;
    let associations = match counters.udp_associations {
        0 => String::new(),
        some => format!(
            " ({})",
            counted(some, "UDP association", "UDP associations")
        ),
    };
    rows.push((
        "connections",
        format!(
            "{} open{associations}, {} idle to upstreams",
            grouped(counters.connections as u64),
            grouped(counters.idle_upstream as u64)
        ),
    ));
    rows.extend(continued("", shortages(&status).into_iter()));
    let names = status.names.as_ref().map(name_servers::lines);
    rows.extend(continued("names", names.unwrap_or_default().into_iter()));
    rows.extend(continued("upstream", upstream(&status).into_iter()));
    rows.push((
        "decisions",
        format!(
            "{} allowed{}, {} refused",
            grouped(counters.allowed),
            reported(counters.reported),
            grouped(counters.blocked)
        ),
    ));
    rows.extend(continued("questions", questions(&status).into_iter()));
    rows.extend(continued("telemetry", telemetry(&status).into_iter()));
    let warnings = status.warnings.iter().map(|warning| printable(warning));
    rows.extend(continued("warnings", warnings));
    Ok(output.labelled(&rows)?)
}

/// The open questions, and whether a listener answers them.
fn questions(status: &Status) -> Option<String> {
    let questions = status.questions?;
    let open = format!("{} open", grouped(questions.open as u64));
    Some(if questions.is_heard {
        open
    } else {
        format!("{open}; nothing is asked without a listener (`proxyctl approvals --follow`)")
    })
}

/// Where audit events go, and how many arrived.
fn telemetry(status: &Status) -> Option<String> {
    let export = status.telemetry.as_ref()?;
    let (collector, protocol) = (printable(&export.collector), printable(&export.protocol));
    let [exported, lost, waiting] = [export.exported, export.lost, export.waiting].map(grouped);
    Some(format!(
        "{exported} audit events exported to {collector} ({protocol}), {waiting} waiting, {lost} lost"
    ))
}

/// How many of the allowed attempts would have been refused.
fn reported(count: u64) -> String {
    match count {
        0 => String::new(),
        count => format!(" ({} would have been refused)", grouped(count)),
    }
}

/// How many connections ended or were refused because there were too many.
fn shortages(status: &Status) -> Option<String> {
    let counters = status.counters;
    (counters.ended_for_others > 0 || counters.turned_away > 0).then(|| {
        format!(
            "{} ended to make room, {} refused for lack of room",
            grouped(counters.ended_for_others),
            grouped(counters.turned_away)
        )
    })
}

/// The proxy's report, and its owner as the kernel reports it.
#[derive(Serialize)]
struct StatusAnswer<'a> {
    #[serde(flatten)]
    status: &'a Status,
    answered_by: &'a AnsweringProxy,
}

/// How many connections were direct, and how many went through an upstream proxy.
fn upstream(status: &Status) -> Vec<String> {
    let counters = status.counters;
    let direct = format!("{} direct", grouped(counters.upstream_direct));
    let through = |proxy: &Option<String>, what, count| {
        let proxy = proxy.as_deref().map(printable)?;
        Some(format!("{what} through {proxy}: {}", grouped(count)))
    };
    std::iter::once(direct)
        .chain(through(
            &status.upstream_http_proxy,
            "plain HTTP",
            counters.upstream_http_proxy,
        ))
        .chain(through(
            &status.upstream_tunnel_proxy,
            "tunnels",
            counters.upstream_tunnel_proxy,
        ))
        .collect()
}

/// The kernel's facts about a process.
fn describe_role(role: &Role) -> String {
    let mut parts = vec![
        format!("{} {}", printable(&role.name), role.pid),
        format!("uid {}", role.uid),
    ];
    let mut add = |label: &str, value: Option<String>| {
        if let Some(value) = value {
            parts.push(format!("{label}{}", printable(&value)));
        }
    };
    let capabilities = role.capabilities.as_deref();
    add("", capabilities.and_then(capabilities::in_words));
    let barred = role.no_new_privs.filter(|barred| *barred);
    add("", barred.map(|_| "no new privileges".to_owned()));
    add("seccomp ", role.seccomp.clone());
    add("landlock ", role.landlock.clone());
    let restarts = role.restarts.filter(|restarts| *restarts > 0);
    add(
        "restarted ",
        restarts.map(|restarts| match restarts {
            1 => "once".to_owned(),
            more => format!("{} times", grouped(more)),
        }),
    );
    parts.join(", ")
}

fn policy(output: &Output, status: &Status) -> String {
    let rules = format!(
        "{}, {}",
        counted(status.allow_rules, "allow rule", "allow rules"),
        counted(status.deny_rules, "deny rule", "deny rules")
    );
    if status.enabled {
        let mode = printable(&status.mode);
        let reports = if status.enforcement == "report" {
            let only = output.paint(Tone::Doubtful, "report only (enforcement = \"report\")");
            format!("{only}, ")
        } else {
            String::new()
        };
        format!("{mode} mode, {reports}{rules}")
    } else {
        let off = output.paint(Tone::Bad, "switched off (enabled = false)");
        format!("{off}; {rules}")
    }
}

fn settings(status: &Status) -> String {
    let generation = status.generation;
    let age = generation
        .since
        .map_or_else(String::new, |since| format!(", for {}", ago(since)));
    let from = match status.files.as_slice() {
        [] => "built-in defaults".to_owned(),
        files => format!("from {}", printable(&files.join(", "))),
    };
    format!("generation {}{age}, {from}", grouped(generation.number))
}

/// The fingerprints in one line.
pub(crate) fn fingerprints(of: &Fingerprints) -> String {
    let none = || "none".to_owned();
    let shown = |text: &Option<String>| text.as_deref().map_or_else(none, printable);
    format!(
        "fingerprints: settings {}, rules {}, requirements {}, CA {}",
        printable(&of.settings),
        printable(if of.rules.is_empty() {
            "unknown"
        } else {
            &of.rules
        }),
        shown(&of.requirements),
        shown(&of.ca)
    )
}

/// A line for each part that is degraded.
fn degraded(status: &Status) -> impl Iterator<Item = String> {
    status.degraded.iter().map(|part| {
        let (name, detail) = (printable(&part.part), printable(&part.detail));
        format!("{name}: {detail}, for {}", ago(part.since))
    })
}

fn last_reload(output: &Output, last: &LastReload) -> Vec<(&'static str, String)> {
    let when = ago(last.at);
    let outcome = match last.outcome {
        ReloadOutcome::Applied => format!("{}, {when} ago", output.paint(Tone::Good, "applied")),
        ReloadOutcome::Failed => format!(
            "{}, {when} ago; the old settings stay in force",
            output.paint(Tone::Bad, "failed")
        ),
        ReloadOutcome::Unknown => format!("{when} ago"),
    };
    // Warnings of a successful reload are those of the settings, shown below.
    let problems = match last.outcome {
        ReloadOutcome::Failed => last.problems.as_slice(),
        ReloadOutcome::Applied | ReloadOutcome::Unknown => &[],
    };
    let problems = problems.iter().map(|problem| printable(problem));
    continued("last reload", std::iter::once(outcome).chain(problems))
}

fn listener(listener: &Listener) -> String {
    let origin = match listener.origin.as_str() {
        "bound" => String::new(),
        origin => format!(" (from {})", printable(origin)),
    };
    format!(
        "{:<8}{}{origin}",
        printable(&listener.name),
        printable(&listener.address)
    )
}

/// Puts the label before the first line, and no label before the others.
fn continued(
    label: &'static str,
    lines: impl Iterator<Item = String>,
) -> Vec<(&'static str, String)> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(lines).collect()
}
