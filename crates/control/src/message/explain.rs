//! `explain`: the decision of the policy in force on a request, and why.

use codex_network_policy::{Explanation, RuleRef};
use serde::{Deserialize, Serialize};

/// The request to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplainQuery {
    /// A URL, `host` or `host:port`.
    pub url: String,
    /// The HTTP method.
    pub method: Option<String>,
    /// The header fields of the HTTP request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderField>,
    /// Whether to look the name up, if the policy permits it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub resolve: bool,
    /// The session whose settings judge; `None` for those of clients without a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// A header field of the request to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Explained {
    /// The host in its canonical form.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The kind of the request, as in audit events.
    pub protocol: String,
    /// The method, if the proxy would see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `allow`, `deny` or `ask`.
    pub decision: String,
    /// Whether it is allowed only since hosts that are merely not allowed are let through and recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub would_deny: bool,
    /// The part of the policy that decides.
    pub source: String,
    /// Why.
    pub reason: String,
    /// More detail, as in the record of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The rule that decides, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The facts behind the decision, in words.
    pub because: String,
    /// How to get the opposite decision; empty where there is no sensible way.
    pub remedy: String,
    /// The addresses of the name, as the proxy judges each; `None` if it was not looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<ExplainedAddress>>,
    /// If no hook matches: the hooks of the host that come nearest to the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<MissedHook>,
    /// Further remarks, a sentence each.
    pub notes: Vec<String>,
    /// The mode in force.
    pub mode: String,
    /// The generation of the settings in force.
    pub generation: u64,
}

/// An address that the name resolves to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExplainedAddress {
    /// The address.
    pub address: String,
    /// The kind of address: `public`, `local`, `this_machine`, `own_listener` or `denied`.
    pub standing: String,
    /// The decision if the name had this address alone: `allow` or `deny`.
    pub decision: String,
    /// The reason of that decision.
    pub reason: String,
    /// The rule that denies it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
}

/// A hook that does not match the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MissedHook {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is written, as `file:line`, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The conditions that the request does not meet, a clause each. They show no value of the hook.
    pub missed: Vec<String>,
}

/// A pattern of a list and where it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// The pattern in its canonical text.
    pub pattern: String,
    /// `allow` or `deny`, where the message does not say which list it is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The file, or a word for another source (`-c`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl Explained {
    /// The answer for a decision, without the fields about the request and the settings.
    pub fn of(explanation: &Explanation) -> Self {
        let decision = &explanation.decision;
        let list = decision.rule().map(|rule| match rule {
            RuleRef::Allowed(_) | RuleRef::AllowedBySession(_) => "allow",
            RuleRef::Denied(_) | RuleRef::DeniedBySession(_) => "deny",
        });
        Self {
            decision: decision.verdict().as_str().to_owned(),
            would_deny: decision.would_deny(),
            source: decision.source().as_str().to_owned(),
            reason: decision.reason().as_str().to_owned(),
            rule: explanation.rule.as_ref().map(|rule| Rule {
                list: list.map(str::to_owned),
                ..Rule::from(rule)
            }),
            because: explanation.because.clone(),
            remedy: explanation.remedy.clone(),
            ..Self::default()
        }
    }
}

impl From<&codex_network_policy::Rule> for Rule {
    fn from(rule: &codex_network_policy::Rule) -> Self {
        let at = rule.written_at.as_ref();
        Self {
            pattern: rule.pattern.clone(),
            list: None,
            file: at.map(|at| at.file.to_string()),
            line: at.map(|at| at.line).filter(|line| *line > 0),
        }
    }
}

impl Rule {
    /// Where it is written, as `file:line`.
    pub fn place(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        Some(match self.line {
            Some(line) => format!("{file}:{line}"),
            None => file.clone(),
        })
    }
}
