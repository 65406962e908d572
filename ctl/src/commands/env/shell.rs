//! Setting and removing variables, in the syntax of a shell.

use serde_json::{Map, Value};

use crate::args::ShellName;

/// The syntax to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// `sh`, bash and zsh.
    Posix,
    Fish,
    PowerShell,
    Json,
}

impl Syntax {
    /// The named syntax, else JSON if it is wanted, else that of the user's login shell.
    pub(super) fn of(named: Option<ShellName>, json: bool) -> Self {
        match named {
            Some(ShellName::Bash | ShellName::Zsh) => Self::Posix,
            Some(ShellName::Fish) => Self::Fish,
            Some(ShellName::Powershell) => Self::PowerShell,
            Some(ShellName::Json) => Self::Json,
            None if json => Self::Json,
            None => Self::of_login_shell(&std::env::var("SHELL").unwrap_or_default()),
        }
    }

    fn of_login_shell(path: &str) -> Self {
        match path.rsplit('/').next() {
            Some("fish") => Self::Fish,
            Some("pwsh") => Self::PowerShell,
            _ => Self::Posix,
        }
    }

    /// Commands that set these variables.
    ///
    /// # Errors
    ///
    /// The name of a variable whose value has a control character. A shell could run what follows.
    pub(super) fn set(self, variables: &[(&'static str, &str)]) -> Result<String, &'static str> {
        let is_plain = |value: &str| !value.chars().any(char::is_control);
        if let Some((name, _)) = variables.iter().find(|(_, value)| !is_plain(value)) {
            return Err(name);
        }
        if self == Self::Json {
            let pairs = variables
                .iter()
                .map(|(name, value)| (*name, Value::from(*value)));
            return Ok(json(pairs));
        }
        let lines = variables.iter().map(|(name, value)| match self {
            Self::Posix => format!("export {name}='{}'", value.replace('\'', r"'\''")),
            Self::Fish => {
                let value = value.replace('\\', r"\\").replace('\'', r"\'");
                format!("set -gx {name} '{value}';")
            }
            Self::PowerShell | Self::Json => {
                // PowerShell takes typographic quotation marks for the end of the text, too.
                let mut quoted = String::with_capacity(value.len());
                for character in value.chars() {
                    if matches!(character, '\'' | '\u{2018}'..='\u{201b}') {
                        quoted.push(character);
                    }
                    quoted.push(character);
                }
                format!("$env:{name} = '{quoted}'")
            }
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// Commands that remove these variables.
    pub(super) fn unset(self, names: &[&str]) -> String {
        let line = |name: &&str| match self {
            Self::Posix => format!("unset {name}"),
            Self::Fish => format!("set -e {name};"),
            Self::PowerShell | Self::Json => {
                format!("Remove-Item -ErrorAction SilentlyContinue Env:{name}")
            }
        };
        if self == Self::Json {
            return json(names.iter().map(|name| (*name, Value::Null)));
        }
        names.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// An object on several lines.
fn json<'n>(pairs: impl Iterator<Item = (&'n str, Value)>) -> String {
    let object: Map<String, Value> = pairs
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    format!("{:#}", Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: [(&str, &str); 2] = [("A", "http://127.0.0.1:1"), ("B", r"it's \ $(x)")];

    #[test]
    fn j15_every_shell_gets_its_own_syntax() {
        let set = |syntax: Syntax| syntax.set(&VARIABLES).expect("plain values");
        assert_eq!(
            set(Syntax::Posix),
            "export A='http://127.0.0.1:1'\nexport B='it'\\''s \\ $(x)'"
        );
        assert_eq!(
            set(Syntax::Fish),
            "set -gx A 'http://127.0.0.1:1';\nset -gx B 'it\\'s \\\\ $(x)';"
        );
        assert_eq!(
            set(Syntax::PowerShell),
            "$env:A = 'http://127.0.0.1:1'\n$env:B = 'it''s \\ $(x)'"
        );
        let json: Value = serde_json::from_str(&set(Syntax::Json)).expect("JSON");
        assert_eq!(json["B"], VARIABLES[1].1);
    }

    #[test]
    fn j15_every_shell_removes_variables() {
        assert_eq!(Syntax::Posix.unset(&["A", "B"]), "unset A\nunset B");
        assert_eq!(Syntax::Fish.unset(&["A"]), "set -e A;");
        let line = Syntax::PowerShell.unset(&["A"]);
        assert_eq!(line, "Remove-Item -ErrorAction SilentlyContinue Env:A");
        let json: Value = serde_json::from_str(&Syntax::Json.unset(&["A"])).expect("JSON");
        assert_eq!(json["A"], Value::Null);
    }

    #[test]
    fn j15_a_value_with_a_line_end_is_refused() {
        for syntax in [
            Syntax::Posix,
            Syntax::Fish,
            Syntax::PowerShell,
            Syntax::Json,
        ] {
            assert_eq!(syntax.set(&[("A", "x\nrm")]), Err("A"));
        }
    }

    #[test]
    fn j15_the_login_shell_decides_when_no_shell_is_named() {
        assert_eq!(Syntax::of_login_shell("/usr/bin/fish"), Syntax::Fish);
        assert_eq!(Syntax::of_login_shell("/usr/bin/pwsh"), Syntax::PowerShell);
        for other in ["/bin/zsh", "/bin/bash", ""] {
            assert_eq!(Syntax::of_login_shell(other), Syntax::Posix);
        }
    }
}
