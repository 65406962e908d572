//! The rules of a session, from the words of its opener (SPEC J4, W1).

use codex_network_control::message::{MAX_PATTERNS, Narrowing};
use codex_network_control::{Access, ControlError};
use codex_network_engine::Engine;
use codex_network_policy::{Enforcement, ListKind, Pattern};

use super::invalid;

/// Checks the rights that the rules need, and parses their patterns.
pub(super) fn narrowing(
    engine: &Engine,
    request: &Narrowing,
    access: Access,
) -> Result<codex_network_policy::Narrowing, ControlError> {
    if !request.allow.is_empty() && access != Access::Administer {
        return invalid("only administrators may widen a session (--allow)");
    }
    if request.report && access != Access::Administer {
        return invalid("only administrators may let a session learn (--learn)");
    }
    let is_managed = engine.current().settings().managed.allowed_domains_only;
    if request.report && is_managed {
        return invalid(
            "a session cannot learn here: the requirements refuse every host that they do not allow themselves \
             (managed_allowed_domains_only)",
        );
    }
    let settings = engine.current();
    let pins = settings.settings().managed.pins();
    if request.report
        && let Some(pin) = pins.iter().find(|pin| pin.key == "enforcement")
    {
        return invalid(format!(
            "a session cannot learn here: {} forbids enforcement = \"report\"",
            pin.line
        ));
    }
    Ok(codex_network_policy::Narrowing {
        limited: request.limited,
        denied: patterns(&request.deny, ListKind::Deny)?,
        only: patterns(&request.only, ListKind::Allow)?,
        allowed: patterns(&request.allow, ListKind::Allow)?,
        enforcement: if request.report {
            Enforcement::Report
        } else {
            Enforcement::Enforce
        },
    })
}

fn patterns(texts: &[String], list: ListKind) -> Result<Vec<Pattern>, ControlError> {
    if texts.len() > MAX_PATTERNS {
        return invalid(format!(
            "a session has at most {MAX_PATTERNS} patterns of each kind"
        ));
    }
    let one = |text: &String| {
        Pattern::parse(text, list).map_err(|error| ControlError::Invalid {
            message: format!("bad pattern {text:?}: {error}"),
        })
    };
    texts.iter().map(one).collect()
}
