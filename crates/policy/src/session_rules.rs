//! The compiled rules of a session. `narrowing` says what they mean.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::domain_set::{DomainSet, TooLarge};
use crate::enforcement::Enforcement;
use crate::pattern::Pattern;
use crate::rule::ConfigLine;

/// The name of a session as the origin of a rule: `*.example.com (session)`.
const SESSION: &str = "session";

/// The compiled rules of a session.
#[derive(Debug)]
pub(crate) struct SessionRules {
    pub(crate) limited: bool,
    pub(crate) denied: DomainSet,
    /// `None` when every host may be allowed.
    pub(crate) only: Option<DomainSet>,
    pub(crate) allowed: DomainSet,
    pub(crate) enforcement: Enforcement,
}

/// Compiles a list of a session.
pub(crate) fn compile(patterns: &[Pattern]) -> Result<DomainSet, TooLarge> {
    let origin = ConfigLine {
        file: Arc::from(SESSION),
        line: 0,
    };
    let rules: Vec<_> = patterns
        .iter()
        .map(|pattern| (pattern.clone(), Some(origin.clone())))
        .collect();
    DomainSet::compile(&rules)
}
