//! `reload`: reads the configuration again. A request for one change gets this change or nothing (SPEC C14).

use std::sync::Arc;

use codex_network_control::ControlError;
use codex_network_control::message::{ExpectedChange, ReloadRequest, Reloaded};
use codex_network_engine::Engine;
use codex_network_policy::{EntryChange, ListKind, Pattern};

use super::peer::Peer;
use crate::worker::reload::Reloader;

pub(super) async fn answer(
    engine: &Engine,
    reloader: &Arc<Reloader>,
    peer: Peer,
    request: &ReloadRequest,
) -> Result<Reloaded, ControlError> {
    let only = request.only.as_ref().map(entry_change).transpose()?;
    tracing::info!(
        parent: None,
        uid = peer.user.as_raw(),
        pid = peer.pid,
        "a reload was requested through the control socket"
    );
    let requested = Arc::clone(reloader);
    // In a task of its own: a caller who disconnects does not stop a reload half-way.
    let outcome = tokio::spawn(async move { requested.reload(only).await }).await;
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if !error.other_changes.is_empty() => Err(ControlError::OtherChanges {
            changes: error.other_changes,
        }),
        Ok(Err(error)) => Err(ControlError::ReloadFailed {
            problems: error.problems,
        }),
        Err(error) => Err(ControlError::Failed {
            message: format!("the reload broke off: {error}"),
        }),
    }?;
    let generation = engine.current();
    let policy = generation.policy();
    Ok(Reloaded {
        generation: generation.number().get(),
        mode: policy.mode().as_str().to_owned(),
        allow_rules: policy.allowed().len(),
        deny_rules: policy.denied().len(),
        warnings: reloader.warnings(),
    })
}

/// The only change that a reload may have.
fn entry_change(only: &ExpectedChange) -> Result<EntryChange, ControlError> {
    let parsed = |text: &String| {
        Pattern::parse(text, ListKind::Allow).map_err(|error| ControlError::Invalid {
            message: format!("{text}: {error}"),
        })
    };
    Ok(match only {
        ExpectedChange::Nothing => EntryChange::Nothing,
        ExpectedChange::Allow { pattern } => EntryChange::Allow(parsed(pattern)?),
        ExpectedChange::Deny { pattern } => EntryChange::Deny(parsed(pattern)?),
        ExpectedChange::Unset { pattern } => EntryChange::Unset(parsed(pattern)?),
    })
}
