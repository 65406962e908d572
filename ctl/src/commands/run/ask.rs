//! `run --ask`: the questions of the program, on the terminal of the launcher (SPEC Q6).
//!
//! The relay shows them (`terminal`). This file makes the calls to the proxy: it listens for the session's questions
//! alone, and gives the answers.

use std::collections::HashMap;
use std::time::Duration;

use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{
    Approval, ApprovalsQuery, MAX_WAIT, Question, QuestionId, Scope,
};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until};

use super::proxy_choice::ProxyKind;
use crate::args::run::RunArgs;
use crate::commands::approvals::{DISABLED, destination, granted_sentence};
use crate::failure::{EndedSession, Failure};
use crate::find;
use crate::output::{printable_line, quoted};
use crate::terminal::{
    AskedQuestion, Choice, GivenAnswer, LauncherTerminal, News, QuestionDesk, Relay,
};

/// The exit code of an invalid command line.
const USAGE: u8 = 2;
/// The time of an approval for some minutes.
const QUARTER_HOUR: u64 = 15 * 60;
/// The least time between two calls for questions. A program whose requests come and go at once is asked about no
/// faster.
const CALL_INTERVAL: Duration = Duration::from_millis(100);

/// Opens the terminal, if the options ask for questions.
pub(super) fn open(args: &RunArgs) -> Result<Option<(Relay, QuestionDesk)>, Failure> {
    if !args.ask {
        return Ok(None);
    }
    let terminal = LauncherTerminal::open().map_err(|error| {
        let message = format!(
            "--ask needs a terminal, and this process has none ({error}); without --ask, `proxyctl approvals --follow` \
             in another terminal answers, if the configuration has `[daemon.approvals] enabled = true`"
        );
        Failure::Session(EndedSession::said(USAGE, message))
    })?;
    let failed = |error| Failure::NoSession(format!("cannot use the terminal: {error}"));
    Relay::new(terminal).map_err(failed).map(Some)
}

/// Listens for the questions of a session. Fails if there will be none, or if this user may not answer them. From here
/// on the proxy asks, for as long as it waits for the next call of a listener.
pub(super) fn listen(
    runtime: &Runtime,
    client: &Client,
    session: &str,
    proxy: ProxyKind,
) -> Result<(), Failure> {
    let found = runtime.block_on(async {
        // The calls arrive in this order, so the second answer shows that the proxy has begun to listen.
        tokio::select! {
            biased;
            found = client.approvals(waiting(0, session)) => found,
            found = client.approvals(ApprovalsQuery::default()) => found,
        }
    });
    let found =
        found.map_err(|error| Failure::NoSession(format!("the proxy asks nothing: {error}")))?;
    if !found.enabled {
        let private = match proxy {
            ProxyKind::Service => "; --private runs a private proxy that asks",
            ProxyKind::Private => "",
        };
        return Err(Failure::NoSession(format!("--ask: {DISABLED}{private}")));
    }
    if !found.may_answer {
        return Err(Failure::NoSession(
            "--ask: this user may not answer questions; `[daemon.approvals] own = true` in the configuration of the \
             service lets users answer those of their own sessions, and --private runs a private proxy"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Shows the questions of a session and gives the answers, until the connection ends.
pub(super) async fn serve(client: &Client, session: &str, desk: &mut QuestionDesk) {
    let mut query = waiting(0, session);
    // Those that the relay knows, and whether a request waits for the answer.
    let mut open: HashMap<String, bool> = HashMap::new();
    let mut next_call = Instant::now();
    loop {
        let call = async {
            sleep_until(next_call).await;
            client.approvals(query.clone()).await
        };
        let found = tokio::select! {
            biased;
            answer = desk.answer() => {
                let id = answer.id.clone();
                let said = give(client, answer).await;
                open.remove(&id);
                desk.tell(News::Closed { id, said });
                continue;
            }
            found = call => found,
        };
        next_call = Instant::now() + CALL_INTERVAL;
        let found = match found {
            Ok(found) => found,
            Err(CallError::TimedOut) => continue,
            // The end of the session says why.
            Err(_) => break,
        };
        for question in &found.approvals {
            // An older proxy lists those of other sessions too.
            if question.session.as_deref() != Some(session) {
                continue;
            }
            let id = question.id.clone();
            if question.state == "pending" {
                let is_awaited = question.waiting > 0;
                let before = open.insert(id.clone(), is_awaited);
                if before.is_none() || is_awaited && before == Some(false) {
                    desk.tell(News::Asked(asked(client, question)));
                }
                if !is_awaited && before != Some(false) {
                    desk.tell(News::Unawaited(id));
                }
            } else if open.remove(&id).is_some() {
                let said = ended(question);
                desk.tell(News::Closed { id, said });
            }
        }
        if found.ending {
            break;
        }
        query = waiting(found.next, session);
    }
    // No news will come of them.
    for id in open.into_keys() {
        desk.tell(News::Unawaited(id));
    }
}

fn asked(client: &Client, question: &Question) -> AskedQuestion {
    let id = question.id.clone();
    let approve = find::command_at(client.path(), &format!("approve {}", printable_line(&id)));
    AskedQuestion {
        text: text(question),
        later: format!("the question stays open, and `{approve}` answers it"),
        id,
    }
}

/// Gives an answer to the proxy. Returns a sentence about it.
async fn give(client: &Client, answer: GivenAnswer) -> String {
    let GivenAnswer { id, choice } = answer;
    let scope = match choice {
        Choice::Once => Scope::Once,
        Choice::Session => Scope::Session,
        Choice::QuarterHour => Scope::Seconds(QUARTER_HOUR),
        Choice::Reject | Choice::Leave => {
            return match client.deny(QuestionId { id }).await {
                Ok(denied) => {
                    let question = denied.question;
                    let to = destination(&question.host, Some(question.port));
                    format!("rejected {to}")
                }
                Err(error) => not_given(&error),
            };
        }
    };
    let approval = Approval {
        id,
        scope,
        any_port: false,
    };
    match client.approve(approval).await {
        Ok(granted) => granted_sentence(&granted.grant),
        Err(error) => not_given(&error),
    }
}

fn not_given(error: &CallError) -> String {
    printable_line(&format!("the answer does not count: {error}"))
}

fn waiting(since: u64, session: &str) -> ApprovalsQuery {
    ApprovalsQuery {
        since,
        wait: MAX_WAIT.as_secs(),
        session: Some(session.to_owned()),
        awaited: true,
    }
}

fn text(question: &Question) -> String {
    let command = question.command.as_deref().map(quoted);
    let command = command.unwrap_or_else(|| "the program".to_owned());
    let to = destination(&question.host, Some(question.port));
    let protocol = printable_line(&question.protocol);
    format!("{command} wants {to} ({protocol}), which the policy does not allow")
}

/// A sentence about a question that was not answered here.
fn ended(question: &Question) -> String {
    let state = printable_line(&question.state);
    match &question.by {
        Some(by) => format!("the question is {state}, by {}", printable_line(by)),
        None => format!("the question is {state}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q6_text_that_the_client_chose_is_escaped_on_the_terminal() {
        let question = Question {
            host: "xn--pple-43d.test".to_owned(),
            port: 443,
            protocol: "https\u{1b}[2J".to_owned(),
            command: Some("a\"\u{1b}[31m\nb\u{202e}".to_owned()),
            by: Some("\u{1b}c".to_owned()),
            state: "granted\n".to_owned(),
            ..Question::default()
        };
        let text = text(&question);
        assert_eq!(
            text,
            "\"a\\\"\\u{1b}[31m\\nb\\u{202e}\" wants xn--pple-43d.test:443 (\"\u{430}pple.test\") \
             (https\\u{1b}[2J), which the policy does not allow"
        );
        let ended = ended(&question);
        assert!(!ended.contains(['\u{1b}', '\n']), "{ended:?}");
    }
}
