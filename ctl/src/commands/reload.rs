//! `proxyctl reload`.

use codex_network_control::client::CallError;
use codex_network_control::message::Reloaded;
use codex_network_control::{Client, ControlError, ReloadProblem};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, OutputFormat, counted, printable};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    match client.reload().await {
        Ok(reloaded) => done(output, &reloaded),
        Err(CallError::Refused(ControlError::ReloadFailed { problems })) => {
            failed(output, &problems)
        }
        Err(error) => Err(error.into()),
    }
}

fn done(output: &Output, reloaded: &Reloaded) -> Result<(), Failure> {
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&json!({
            "status": "reloaded",
            "generation": reloaded.generation,
            "mode": reloaded.mode,
            "allow_rules": reloaded.allow_rules,
            "deny_rules": reloaded.deny_rules,
            "warnings": reloaded.warnings,
        }))?);
    }
    for warning in &reloaded.warnings {
        output.remark(&format!("warning: {warning}"));
    }
    Ok(output.sentence(&format!(
        "reloaded: {} mode, {}, {}",
        printable(&reloaded.mode),
        counted(reloaded.allow_rules, "allow rule", "allow rules"),
        counted(reloaded.deny_rules, "deny rule", "deny rules"),
    ))?)
}

/// Every problem in full, as from `codex-network-proxy check`.
fn failed(output: &Output, problems: &[ReloadProblem]) -> Result<(), Failure> {
    if output.format() == OutputFormat::Json {
        output.json(&json!({ "status": "failed", "problems": problems }))?;
        return Err(Failure::AlreadyReported);
    }
    for problem in problems {
        output.remark(&format!("{}\n", problem.text.trim_end()));
    }
    let error = "the reload failed; the old settings stay in force";
    Err(Failure::Failed(error.to_owned()))
}
