//! `proxyctl approvals`, `approve`, `reject`, `grants` and `revoke` (SPEC Q6).
//!
//! Hosts and commands come from clients. A host is shown in canonical form, which is ASCII. Everything else that a
//! client chose is in quotes: the command, and the U-labels of a host.
//!
//! - `follow`: listens. `exec`: commands that answer.
//! - `permanent`: answers that become entries of the configuration.

mod exec;
mod follow;
mod permanent;

use codex_network_config::allow_command;
use codex_network_control::Client;
use codex_network_control::message::{
    Approval, ApprovalsQuery, Grant, Question, QuestionId, Scope, TemporaryGrant,
};
use codex_network_policy::Host;

use crate::args::approvals::ApproveArgs;
use crate::args::change::AllowTime;
use crate::failure::Failure;
use crate::listener::user_or_uid;
use crate::output::{
    Column, Output, OutputFormat, Wrap, bracketed, grouped, printable_line, quoted, utc,
};

pub(super) use self::permanent::{approve as approve_permanently, reject as reject_permanently};

const QUESTIONS: [Column; 8] = [
    column("ID", 8, Wrap::Never, 0),
    column("STATE", 9, Wrap::Never, 0),
    column("DESTINATION", 28, Wrap::ToWidth(22), 0),
    column("PROTOCOL", 12, Wrap::Never, 4),
    column("COMMAND", 10, Wrap::ToWidth(10), 1),
    column("USER", 8, Wrap::ToWidth(8), 2),
    column("SESSION", 16, Wrap::Never, 5),
    column("EXPIRES", 20, Wrap::Never, 3),
];

const GRANTS: [Column; 7] = [
    column("ID", 0, Wrap::Never, 0),
    column("DESTINATION", 0, Wrap::ToWidth(22), 0),
    column("BY", 0, Wrap::ToWidth(8), 0),
    column("SINCE", 0, Wrap::Never, 3),
    column("UNTIL", 0, Wrap::ToWidth(20), 0),
    column("USES", 0, Wrap::Never, 2),
    column("FOR", 0, Wrap::ToWidth(16), 1),
];

const fn column(heading: &'static str, usual: usize, wrap: Wrap, dispensable: u8) -> Column {
    Column {
        heading,
        usual,
        wrap,
        dispensable,
    }
}

/// Lists the open questions, or follows them with the option `--follow`.
pub(super) async fn run(
    client: Client,
    output: &Output,
    follows: bool,
    command: Option<String>,
) -> Result<(), Failure> {
    if follows {
        follow::follow(client, output, command).await
    } else {
        list(&client, output).await
    }
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let found = client.approvals(ApprovalsQuery::default()).await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&found.approvals)?);
    }
    if found.approvals.is_empty() {
        let none = if found.enabled {
            "there is no open question; `proxyctl approvals --follow` listens for questions"
        } else {
            DISABLED
        };
        return Ok(output.sentence(none)?);
    }
    let rows: Vec<_> = found.approvals.iter().map(question_row).collect();
    Ok(output.table(&QUESTIONS, &rows)?)
}

pub(super) const DISABLED: &str = "the proxy asks no questions; `[daemon.approvals] enabled = true` in its configuration lets it ask";

/// Approves a question.
pub(super) async fn approve(
    client: &Client,
    output: &Output,
    args: ApproveArgs,
) -> Result<(), Failure> {
    let scope = match args.scope.time {
        Some(time) => Scope::Seconds(time.as_secs()),
        None if args.scope.once => Scope::Once,
        None if args.scope.session => Scope::Session,
        None => Scope::Default,
    };
    let granted = client.approve(Approval {
        id: args.id,
        scope,
        any_port: args.any_port,
    });
    let grant = granted.await?.grant;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&grant)?);
    }
    Ok(output.sentence(&granted_sentence(&grant))?)
}

/// Allows a host for a time (SPEC W3).
pub(super) async fn allow(
    client: &Client,
    output: &Output,
    host: String,
    options: AllowTime,
) -> Result<(), Failure> {
    if Host::parse(&host).is_err() {
        return Err(Failure::Failed(format!(
            "{host}: --for allows one host, not a pattern; `{}` allows the pattern in the configuration",
            allow_command(&host)
        )));
    }
    let granted = client.grant(TemporaryGrant {
        host,
        seconds: options.time.map_or(0, |time| time.as_secs()),
        session: options.session,
    });
    let grant = granted.await?.grant;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&grant)?);
    }
    let to = grant_destination(&grant);
    let sentence = format!("allowed {to} {} {}", until(&grant), beneficiary(&grant));
    Ok(output.sentence(&sentence)?)
}

/// The sentence for a grant that was given.
pub(super) fn granted_sentence(grant: &Grant) -> String {
    let to = grant_destination(grant);
    format!("approved {to} {} {}", until(grant), beneficiary(grant))
}

/// Denies a question.
pub(super) async fn reject(client: &Client, output: &Output, id: String) -> Result<(), Failure> {
    let question = client.deny(QuestionId { id }).await?.question;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&question)?);
    }
    let destination = destination(&question.host, Some(question.port));
    Ok(output.sentence(&format!("denied {destination}"))?)
}

/// Lists the grants in force.
pub(super) async fn grants(client: &Client, output: &Output) -> Result<(), Failure> {
    let answer = client.grants().await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&answer.grants)?);
    }
    if answer.grants.is_empty() {
        return Ok(output.sentence("there is no grant")?);
    }
    let rows: Vec<_> = answer.grants.iter().map(grant_row).collect();
    Ok(output.table(&GRANTS, &rows)?)
}

/// Ends a grant.
pub(super) async fn revoke(client: &Client, output: &Output, id: String) -> Result<(), Failure> {
    let grant = client.revoke(QuestionId { id }).await?.grant;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&grant)?);
    }
    let destination = grant_destination(&grant);
    Ok(output.sentence(&format!("revoked the grant for {destination}"))?)
}

fn question_row(question: &Question) -> [String; 8] {
    let shown = |text: &Option<String>, how: fn(&str) -> String| {
        let text = text.as_deref().map(how);
        text.unwrap_or_else(|| "-".to_owned())
    };
    let user = question.user.clone();
    [
        printable_line(&question.id),
        printable_line(&question.state),
        destination(&question.host, Some(question.port)),
        printable_line(&question.protocol),
        shown(&question.command, quoted),
        printable_line(&user.unwrap_or_else(|| user_or_uid(question.uid))),
        shown(&question.session, printable_line),
        utc(question.expires),
    ]
}

fn grant_row(grant: &Grant) -> [String; 7] {
    [
        printable_line(&grant.id),
        grant_destination(grant),
        printable_line(&grant.by),
        utc(grant.since),
        until(grant),
        grouped(grant.uses),
        beneficiary(grant),
    ]
}

fn grant_destination(grant: &Grant) -> String {
    destination(&grant.host, grant.port)
}

/// A host and port, and the name as it would be written, where that differs.
pub(super) fn destination(host: &str, port: Option<u16>) -> String {
    let bracketed = printable_line(&bracketed(host));
    let port = port.map_or_else(|| "*".to_owned(), |port| port.to_string());
    let written = Host::parse(host).ok().and_then(|host| host.with_u_labels());
    match written {
        Some(written) => format!("{bracketed}:{port} ({})", quoted(&written)),
        None => format!("{bracketed}:{port}"),
    }
}

fn until(grant: &Grant) -> String {
    match (grant.scope.as_str(), grant.until) {
        ("once", _) => "for one connection".to_owned(),
        (_, Some(until)) => format!("until {}", utc(until)),
        (_, None) => "until the session ends".to_owned(),
    }
}

fn beneficiary(grant: &Grant) -> String {
    if let Some(session) = &grant.session {
        return format!("for session {}", printable_line(session));
    }
    let user = grant.user.clone();
    let user = user.unwrap_or_else(|| user_or_uid(grant.uid));
    let user = printable_line(&user);
    match grant.whom.as_str() {
        "everyone" => "for every client".to_owned(),
        "sessions" => format!("for the sessions of {user}"),
        _ => format!("for the programs of {user}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q6_the_command_of_a_question_cannot_look_like_another_cell() {
        let question = Question {
            command: Some("curl\"  alice  \u{202e}".to_owned()),
            ..Question::default()
        };
        assert_eq!(question_row(&question)[4], r#""curl\"  alice  \u{202e}""#);
    }

    #[test]
    fn q6_a_host_is_shown_in_canonical_form_and_as_it_is_written() {
        for (host, port, wanted) in [
            ("a.test", Some(443), "a.test:443"),
            ("::1", Some(80), "[::1]:80"),
            ("a.test", None, "a.test:*"),
            // A Cyrillic letter that looks like a Latin one.
            (
                "xn--pple-43d.test",
                Some(443),
                "xn--pple-43d.test:443 (\"\u{430}pple.test\")",
            ),
        ] {
            assert_eq!(destination(host, port), wanted);
        }
        // Letters that would move the port.
        let hebrew = destination("xn--4dbrk0ce.test", Some(443));
        assert!(
            hebrew.starts_with("xn--4dbrk0ce.test:443 (\"\\u{5d9}"),
            "{hebrew}"
        );
        let hostile = destination("a.test\u{202e}\u{1b}[31m", Some(1));
        assert_eq!(hostile, "a.test\\u{202e}\\u{1b}[31m:1");
    }
}
