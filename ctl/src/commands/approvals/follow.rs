//! `proxyctl approvals --follow`: listens for questions, and lists each change (SPEC Q6).

use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{Approvals, ApprovalsQuery, MAX_WAIT};

use super::exec::Answerers;
use super::{DISABLED, QUESTIONS, question_row};
use crate::ending_signals::EndingSignals;
use crate::failure::Failure;
use crate::find;
use crate::output::{Output, OutputFormat};

/// Listens until the proxy stops or the reader ends. With a command, it answers, and a signal that ends it ends the
/// commands that run.
pub(in crate::commands) async fn follow(
    mut client: Client,
    output: &Output,
    command: Option<String>,
) -> Result<(), Failure> {
    let mut query = waiting(0);
    let mut is_first = true;
    let mut answerers = command.clone().map(Answerers::new);
    let mut signals = match &command {
        Some(_) => Some(EndingSignals::new()?),
        None => None,
    };
    if output.format() == OutputFormat::Text {
        output.open_table(&QUESTIONS)?;
    }
    loop {
        // Without a wait, so that the remarks come first.
        let asked = if is_first {
            ApprovalsQuery::default()
        } else {
            query.clone()
        };
        let answer = async {
            match &mut answerers {
                Some(answerers) => answerers.next().await,
                None => std::future::pending().await,
            }
        };
        let signal = async {
            match &mut signals {
                Some(signals) => signals.next().await,
                None => std::future::pending().await,
            }
        };
        let found = tokio::select! {
            biased;
            number = signal => return Err(Failure::Signal(number)),
            answer = answer => {
                answer.give(&client, output).await;
                continue;
            }
            found = client.approvals(asked) => found,
        };
        let found = match found {
            Err(CallError::Disconnected) => {
                client = find::connect_again(&client).await?;
                // The questions of the earlier worker ended with it.
                query = waiting(0);
                answerers = command.clone().map(Answerers::new);
                output
                    .remark("(the proxy's worker was replaced; its questions and grants are gone)");
                continue;
            }
            found => found?,
        };
        if is_first {
            remark(output, &found);
        }
        is_first = false;
        write(output, &found)?;
        if let Some(answerers) = &mut answerers {
            for question in &found.approvals {
                answerers.note(output, question);
            }
        }
        if found.ending {
            return Err(Failure::Unreachable("the proxy is stopping".to_owned()));
        }
        query = waiting(found.next);
    }
}

fn write(output: &Output, found: &Approvals) -> Result<(), Failure> {
    match output.format() {
        OutputFormat::Json => {
            for question in &found.approvals {
                output.json_line(question)?;
            }
        }
        OutputFormat::Text => {
            let rows: Vec<_> = found.approvals.iter().map(question_row).collect();
            output.further_rows(&QUESTIONS, &rows)?;
        }
    }
    Ok(())
}

fn waiting(since: u64) -> ApprovalsQuery {
    ApprovalsQuery {
        since,
        wait: MAX_WAIT.as_secs(),
        ..ApprovalsQuery::default()
    }
}

fn remark(output: &Output, found: &Approvals) {
    if !found.enabled {
        output.remark(&format!("({DISABLED})"));
    } else if !found.may_answer {
        output.remark("(this user may not answer questions, so this does not count as listening)");
    }
}
