//! `proxyctl shadow FILE`: a candidate configuration judges what the running proxy decides (SPEC W5).
//!
//! It judges the decisions that the caller may see, here and not in the proxy. No request waits for it.

use std::path::Path;
use std::time::Duration;

use codex_network_config::{JudgedAttempts, RecordedAttempt, Replay, Sources, load};
use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{DecisionEntry, DecisionsQuery, MAX_WAIT};
use serde_json::{Value, json};

use crate::ending_signals::EndingSignals;
use crate::failure::Failure;
use crate::find;
use crate::output::{Output, OutputFormat, counted};

/// Judges until a signal, the end of the time, or the end of the proxy.
pub(super) async fn run(
    mut client: Client,
    output: &Output,
    file: &Path,
    time: Option<Duration>,
) -> Result<(), Failure> {
    let mut signals = EndingSignals::new()?;
    // The variables with secrets are those of the proxy.
    let sources = Sources::file(file).with_environment(|_| Some("not looked at".into()));
    if !file.exists() {
        return Err(Failure::Failed(format!(
            "{}: there is no such file",
            file.display()
        )));
    }
    let settings = load(&sources)
        .map_err(|problems| unusable(&problems))?
        .settings;
    let mut replay = Replay::new(&settings);
    let end = tokio::time::sleep(time.unwrap_or(Duration::MAX));
    tokio::pin!(end);
    // Those of earlier workers, and those of this one.
    let (mut lost_before, mut lost) = (0, 0);
    // The first call begins to follow.
    let mut query = DecisionsQuery { wait: 0 };
    loop {
        let found = tokio::select! {
            biased;
            _ = signals.next() => break,
            () = &mut end => break,
            found = client.decisions(query) => found,
        };
        let found = match found {
            Err(CallError::Disconnected) => {
                client = find::connect_again(&client).await?;
                output.remark("(the proxy's worker was replaced; decisions may be missing)");
                lost_before += std::mem::take(&mut lost);
                query = DecisionsQuery { wait: 0 };
                continue;
            }
            found => found?,
        };
        if query.wait == 0 {
            output.remark("(judging the decisions of the proxy from now on)");
        }
        lost = found.lost;
        for record in found.decisions.iter().filter_map(record) {
            if let Some(difference) = replay.add(&record)
                && output.format() == OutputFormat::Text
            {
                output.line(&difference.to_string())?;
            }
        }
        if found.ending {
            output.remark("(the proxy is stopping)");
            break;
        }
        query = DecisionsQuery {
            wait: MAX_WAIT.as_secs(),
        };
    }
    let (report, lost) = (replay.report(), lost_before + lost);
    if output.format() == OutputFormat::Json {
        let mut result = serde_json::to_value(&report).map_err(std::io::Error::from)?;
        result["lost"] = json!(lost);
        return Ok(output.json(&result)?);
    }
    output.line("")?;
    for line in report.lines() {
        output.line(&line)?;
    }
    output.sentence(&report.summary(JudgedAttempts::Seen))?;
    if lost > 0 {
        let lost = usize::try_from(lost).unwrap_or(usize::MAX);
        let decisions = counted(lost, "decision was", "decisions were");
        output.remark(&format!("({decisions} made too fast, and not judged)"));
    }
    Ok(())
}

/// Why the candidate cannot be used. A failure is shown with `error: ` before it, as each problem is.
fn unusable(problems: &impl std::fmt::Display) -> Failure {
    let text = problems.to_string();
    Failure::Failed(text.strip_prefix("error: ").unwrap_or(&text).to_owned())
}

/// A decision as a record; `None` for a host that no policy can name.
fn record(entry: &DecisionEntry) -> Option<RecordedAttempt> {
    match serde_json::to_value(entry) {
        Ok(Value::Object(fields)) => RecordedAttempt::of_entry(&fields),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use codex_network_policy::Protocol;

    use super::*;

    #[test]
    fn w5_a_decision_is_a_record_with_the_facts_that_judge_it() {
        let entry = DecisionEntry {
            decision: "ask".to_owned(),
            reason: "not_allowed".to_owned(),
            source: "decider".to_owned(),
            protocol: "http-connect".to_owned(),
            host: "a.test".to_owned(),
            port: Some(443),
            method: Some("CONNECT".to_owned()),
            ..DecisionEntry::default()
        };
        let record = record(&entry).expect("a record");
        assert_eq!(
            (
                record.protocol,
                record.port,
                record.is_allowed,
                record.count
            ),
            (Protocol::HttpConnect, 443, false, 1)
        );
        assert_eq!((&*record.source, &*record.method), ("decider", "CONNECT"));
        let no_host = DecisionEntry {
            host: "a b".to_owned(),
            ..entry
        };
        assert_eq!(super::record(&no_host), None);
    }
}
