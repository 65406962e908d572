//! Presets: ready allow lists by name (SPEC J16).
//!
//! Presets of services are data (`SERVICE_PRESETS`). Presets of package managers are asked of the
//! tools on this machine, since people use mirrors and private registries. A preset is an allow list
//! and nothing else.

mod ask;
mod tools;
mod url_host;

use codex_network_config::{PackageTool, SERVICE_PRESETS};
use codex_network_policy::{ListKind, Pattern};
use serde::Serialize;

use self::tools::Tool;

/// A preset, and the patterns that its name stands for here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Preset {
    pub(crate) name: String,
    pub(crate) patterns: Vec<PresetPattern>,
}

/// A pattern, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct PresetPattern {
    pub(crate) pattern: String,
    /// Where a tool has it from; `built in` for a service.
    pub(crate) source: String,
}

/// A name, and a few words on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct PresetName {
    pub(crate) name: &'static str,
    pub(crate) about: String,
}

/// The URL that the token of a package manager belongs to on this machine (SPEC B5). `None` for a name that is not
/// one of theirs, or if the tool gives no answer.
pub(crate) fn token_url(name: &str) -> Option<String> {
    let mut tools = PackageTool::ALL.into_iter();
    tools
        .find(|tool| tool.as_str() == name)
        .and_then(tools::token_url)
}

/// The standard output of a program of the user, which runs in the root directory for 20 seconds at most.
///
/// # Errors
///
/// A sentence: the program is missing, fails, does not end in time, or prints too much.
pub(crate) fn output_of(program: &str, arguments: &[&str]) -> Result<String, String> {
    let directory = std::path::Path::new("/");
    let question = ask::Question {
        program,
        arguments,
        directory,
    };
    question.ask()
}

/// All names, those of tools first.
pub(crate) fn names() -> Vec<PresetName> {
    let tools = Tool::ALL.map(|tool| PresetName {
        name: tool.name(),
        about: format!("asks {}: {}", tool.program(), tool.about()),
    });
    let services = SERVICE_PRESETS.iter().map(|preset| PresetName {
        name: preset.name,
        about: preset.about.to_owned(),
    });
    tools.into_iter().chain(services).collect()
}

/// The allow list that a name stands for here. Asks the tool if it is the name of one.
///
/// # Errors
///
/// A sentence: there is no such preset, or its tool gave no host.
pub(crate) fn expand(name: &str) -> Result<Preset, String> {
    let patterns = if let Some(tool) = Tool::ALL.into_iter().find(|tool| tool.name() == name) {
        from_tool(tool)?
    } else if let Some(preset) = SERVICE_PRESETS.iter().find(|preset| preset.name == name) {
        let patterns = preset.patterns.iter().map(|pattern| PresetPattern {
            pattern: (*pattern).to_owned(),
            source: "built in".to_owned(),
        });
        patterns.collect()
    } else {
        let known: Vec<&str> = names().iter().map(|known| known.name).collect();
        return Err(format!(
            "there is no preset {name:?}; there are {}",
            known.join(", ")
        ));
    };
    Ok(Preset {
        name: name.to_owned(),
        patterns,
    })
}

/// The hosts that a tool uses, as patterns that an allow list takes.
fn from_tool(tool: Tool) -> Result<Vec<PresetPattern>, String> {
    let name = tool.name();
    let mut patterns = Vec::new();
    for found in tool
        .hosts()
        .map_err(|why| format!("preset {name}: {why}"))?
    {
        Pattern::parse(&found.host, ListKind::Allow).map_err(|error| {
            format!("preset {name}: {}: {:?} {error}", found.source, found.host)
        })?;
        patterns.push(PresetPattern {
            pattern: found.host,
            source: found.source,
        });
    }
    patterns.sort();
    patterns.dedup_by(|one, next| one.pattern == next.pattern);
    if patterns.is_empty() {
        return Err(format!(
            "preset {name}: {} names no host here; allow the hosts with --allow instead",
            tool.program()
        ));
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j16_an_unknown_preset_is_an_error_that_names_the_known_ones() {
        let error = expand("githb").expect_err("an unknown name");
        for known in ["npm", "pip", "apt", "cargo", "git", "github", "openai"] {
            assert!(error.contains(known), "{error}");
        }
    }

    #[test]
    fn j16_a_service_is_data() {
        let preset = expand("anthropic").expect("a preset");
        let patterns: Vec<&str> = preset
            .patterns
            .iter()
            .map(|pattern| pattern.pattern.as_str())
            .collect();
        assert!(patterns.contains(&"api.anthropic.com"), "{patterns:?}");
    }
}
