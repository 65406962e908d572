//! `proxyctl approve --permanent` and `reject --permanent` (SPEC Q4): an answer that becomes an entry of the
//! configuration.
//!
//! The entry is made as `proxyctl allow` and `deny` make one. An approval that cannot be written is a denial.

use std::path::PathBuf;

use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{ApprovalsQuery, Question, QuestionId};
use codex_network_policy::{Host, ListKind, Pattern, Policy, PolicySpec};

use super::destination;
use crate::args::approvals::{ApproveArgs, RejectArgs};
use crate::args::change::ChangeArgs;
use crate::commands::change::{self, ChangeFailure};
use crate::edit::{ListChange, Verb};
use crate::failure::Failure;
use crate::find;
use crate::output::{Output, OutputFormat, quoted};
use crate::private_instances;

/// The host and the entry of a question.
struct Entry {
    id: String,
    pattern: Pattern,
    comment: String,
}

/// Adds an allow entry for what a question asks for. The reload answers the question.
pub(in crate::commands) fn approve(
    socket: Option<PathBuf>,
    output: &Output,
    args: &ApproveArgs,
) -> Result<(), Failure> {
    change::runtime()?.block_on(async {
        let client = find::connect_or_private(socket.clone()).await?;
        let question = pending(&client, &args.id).await?;
        check_profile(&client, &question).await?;
        let entry = Entry::of(
            &question,
            args.entry.pattern.as_deref(),
            args.entry.reason.as_deref(),
        )?;
        let everywhere = "on every port, to every client of this proxy, until the entry is removed";
        output.remark(&format!("this allows {} {everywhere}", entry.pattern));
        let id = entry.id.clone();
        let failure = match entry.write(named(socket, &client), output, Verb::Allow).await {
            Ok(()) => return closed(&client, &question).await,
            Err(ChangeFailure::NotMade(failure)) => failure,
            // The fault is not the answer's.
            Err(ChangeFailure::OtherChanges(failure)) => {
                return Err(failure.followed_by("the question is still open"));
            }
            // A denial would contradict the entry.
            Err(ChangeFailure::Unknown(failure)) => {
                return Err(failure.followed_by(
                    "the entry is written, and the question is answered when the proxy has taken it: `proxyctl reload`",
                ));
            }
        };
        Err(match client.deny(QuestionId { id }).await {
            Ok(_) => {
                failure.followed_by("the approval could not be written, so the question was denied")
            }
            Err(error) => failure.followed_by(&format!(
                "the approval could not be written, and the question could not be denied: {error}"
            )),
        })
    })
}

/// Denies a question, and adds a deny entry for what it asks for.
pub(in crate::commands) fn reject(
    socket: Option<PathBuf>,
    output: &Output,
    args: RejectArgs,
) -> Result<(), Failure> {
    change::runtime()?.block_on(async {
        let client = find::connect_or_private(socket.clone()).await?;
        // First, so that it counts whatever happens to the file.
        let denied = client.deny(QuestionId { id: args.id }).await?.question;
        if output.format() == OutputFormat::Text {
            let destination = destination(&denied.host, Some(denied.port));
            output.sentence(&format!("denied {destination}"))?;
        }
        let entry = Entry::of(&denied, args.entry.pattern.as_deref(), args.entry.reason.as_deref())?;
        let written = entry.write(named(socket, &client), output, Verb::Deny).await;
        written.map_err(|failure| match failure {
            ChangeFailure::NotMade(failure) | ChangeFailure::OtherChanges(failure) => failure.followed_by(
                "the entry could not be written, so the denial ends as one without --permanent does",
            ),
            ChangeFailure::Unknown(failure) => failure.followed_by(
                "the entry is written, and counts when the proxy has taken it: `proxyctl reload`",
            ),
        })
    })
}

/// The socket for the change: the named one, or that of the private proxy that was found.
fn named(socket: Option<PathBuf>, client: &Client) -> Option<PathBuf> {
    let path = client.path();
    socket.or_else(|| private_instances::is_socket(path).then(|| path.to_owned()))
}

impl Entry {
    fn of(
        question: &Question,
        pattern: Option<&str>,
        reason: Option<&str>,
    ) -> Result<Self, Failure> {
        let pattern = match pattern {
            None => parsed(&question.host)?,
            Some(text) => {
                let pattern = parsed(text)?;
                if pattern.is_everything() {
                    return Err(Failure::Failed(
                        "one question does not allow or deny every host; `proxyctl allow '*'` does; nothing was changed"
                            .to_owned(),
                    ));
                }
                if !covers(&pattern, &question.host) {
                    return Err(Failure::Failed(format!(
                        "the pattern {pattern} does not cover {}, which the question is about; nothing was changed",
                        question.host
                    )));
                }
                pattern
            }
        };
        let command = question.command.as_deref().map(quoted);
        let from = command.map(|command| format!(" from {command}"));
        let why = reason.map(|reason| format!(": {reason}"));
        let (from, why) = (from.unwrap_or_default(), why.unwrap_or_default());
        Ok(Self {
            id: question.id.clone(),
            pattern,
            comment: change::comment(&format!("question {}{from}{why}", question.id)),
        })
    }

    async fn write(
        self,
        socket: Option<PathBuf>,
        output: &Output,
        verb: Verb,
    ) -> Result<(), ChangeFailure> {
        let change = ListChange {
            verb,
            pattern: self.pattern,
            comment: Some(self.comment),
        };
        change::make(socket, output, &change, &ChangeArgs::default()).await
    }
}

/// The entry changes the profile in force, and no other one.
async fn check_profile(client: &Client, question: &Question) -> Result<(), Failure> {
    let Some(id) = &question.session else {
        return Ok(());
    };
    let sessions = client.sessions().await?.sessions;
    let session = sessions.into_iter().find(|session| session.id == *id);
    match session.and_then(|session| session.profile) {
        Some(profile) => Err(Failure::Failed(format!(
            "the session {id} uses the permission profile {profile:?}, which --permanent does not change: allow {} in \
             that profile, or approve the question for the session",
            question.host
        ))),
        None => Ok(()),
    }
}

/// Checks that the reload has answered the question.
async fn closed(client: &Client, question: &Question) -> Result<(), Failure> {
    let found = match client.approvals(ApprovalsQuery::default()).await {
        // The question has ended with the proxy: a private one ends with its program, which the answer let go on.
        Err(CallError::Disconnected) => return Ok(()),
        found => found?,
    };
    let mut open = found.approvals.into_iter();
    if open.any(|other| other.id == question.id) {
        return Err(Failure::Failed(format!(
            "the question {} is still open: the entry is in the file, and not in force; run `proxyctl reload`, and \
             `proxyctl explain {}` shows what counts",
            question.id, question.host
        )));
    }
    Ok(())
}

/// The open question with this id.
async fn pending(client: &Client, id: &str) -> Result<Question, Failure> {
    let found = client.approvals(ApprovalsQuery::default()).await?;
    if !found.may_answer {
        return Err(Failure::NotPermitted(
            "this user may not answer questions; an administrator of the proxy may".to_owned(),
        ));
    }
    let mut open = found.approvals.into_iter();
    open.find(|question| question.id == id).ok_or_else(|| {
        Failure::Failed(format!(
            "there is no open question {id:?}; `proxyctl approvals` lists them, and `proxyctl allow PATTERN` needs none"
        ))
    })
}

fn parsed(text: &str) -> Result<Pattern, Failure> {
    let pattern = Pattern::parse(text, ListKind::Allow);
    pattern.map_err(|error| Failure::Failed(format!("{text}: {error}; nothing was changed")))
}

fn covers(pattern: &Pattern, host: &str) -> bool {
    let spec = PolicySpec {
        allowed: vec![(pattern.clone(), None)],
        ..PolicySpec::default()
    };
    let (Ok(policy), Ok(host)) = (Policy::compile(&spec), Host::parse(host)) else {
        return false;
    };
    policy.allowed().find(&host).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_a_pattern_must_cover_the_host_of_the_question() {
        let question = Question {
            id: "0a1b2c3d".to_owned(),
            host: "api.a.test".to_owned(),
            command: Some("curl\"\n".to_owned()),
            ..Question::default()
        };
        for (pattern, is_entry) in [
            (None, true),
            (Some("*.a.test"), true),
            (Some("**.a.test"), true),
            (Some("a.test"), false),
            (Some("*.b.test"), false),
        ] {
            let entry = Entry::of(&question, pattern, Some("why"));
            assert_eq!(entry.is_ok(), is_entry, "{pattern:?}");
            let Ok(entry) = entry else { continue };
            assert_eq!(entry.pattern.to_string(), pattern.unwrap_or("api.a.test"));
            let wanted = r#": question 0a1b2c3d from "curl\"\n": why"#;
            assert!(entry.comment.ends_with(wanted), "{}", entry.comment);
        }
    }
}
