//! A proposed policy in TOML, in the newest form (SPEC C2). Comments give the hosts behind a wildcard, the ports and
//! the counts.

use super::{Proposal, ProposedEntry};
use crate::output::{grouped, printable_line};

/// The profile of a proposed policy.
const PROFILE: &str = "learned";
/// The most hosts that the comment of an entry names.
const MAX_NAMED: usize = 8;

/// The effect of `allow_local_binding`, which is more than the run needed.
pub(crate) const LOCAL_BINDING: &str = "allow_local_binding lifts the protection of local and private addresses for \
                                        every entry, not only for these hosts.";

impl Proposal {
    /// A whole configuration. `remarks` are comments at its beginning.
    pub(crate) fn to_toml(&self, is_limited: bool, remarks: &[String]) -> String {
        let mut lines = Vec::new();
        lines.extend(remarks.iter().map(|line| comment(line)));
        lines.push(comment("An entry allows every port of its hosts."));
        lines.push(format!("default_permissions = \"{PROFILE}\""));
        lines.push(String::new());
        lines.push(format!("[permissions.{PROFILE}.network]"));
        if is_limited {
            lines.push("mode = \"limited\"".to_owned());
        }
        if !self.local.is_empty() {
            let names = named(&self.local);
            lines.push(comment(&format!("Local addresses: {names}.")));
            lines.push(comment(LOCAL_BINDING));
            lines.push("allow_local_binding = true".to_owned());
        }
        lines.push(String::new());
        lines.push(format!("[permissions.{PROFILE}.network.domains]"));
        lines.extend(self.entries.iter().map(ProposedEntry::line));
        lines.join("\n") + "\n"
    }
}

impl ProposedEntry {
    /// `"*.example.com" = "allow" # a.example.com, b.example.com, c.example.com; port 443; 5 times`.
    fn line(&self) -> String {
        let mut facts = Vec::new();
        if self.pattern.starts_with('*') {
            facts.push(named(&self.hosts));
        }
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        match ports.as_slice() {
            [] => {}
            [port] => facts.push(format!("port {port}")),
            ports => facts.push(format!("ports {}", ports.join(", "))),
        }
        facts.push(match self.count {
            1 => "once".to_owned(),
            count => format!("{} times", grouped(count)),
        });
        let pattern = toml_edit::Value::from(self.pattern.as_str());
        format!("{pattern} = \"allow\" {}", comment(&facts.join("; ")))
    }
}

fn named(hosts: &[String]) -> String {
    let mut names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    if names.len() <= MAX_NAMED {
        return names.join(", ");
    }
    let more = names.len() - MAX_NAMED;
    names.truncate(MAX_NAMED);
    format!("{} and {more} more", names.join(", "))
}

/// A comment on one line.
fn comment(text: &str) -> String {
    format!("# {}", printable_line(text))
}
