//! The Seatbelt profile that confines a program on macOS (SPEC J8), as text for `sandbox-exec`.
//!
//! Nothing here has run on macOS.

use std::ffi::OsString;
use std::path::PathBuf;

/// The program that applies a profile.
const SANDBOX_EXEC: &str = "/usr/bin/sandbox-exec";

/// Services that evaluate certificates for TLS libraries.
const TRUST_SERVICES: [&str; 2] = ["com.apple.trustd.agent", "com.apple.TrustEvaluationAgent"];

/// The way out of a Seatbelt profile.
#[derive(Debug, Default)]
pub(crate) struct SeatbeltPlan {
    /// Ports of the session's doors on loopback.
    pub(crate) ports: Vec<u16>,
    /// Unix sockets that the program may connect to.
    pub(crate) unix_sockets: Vec<PathBuf>,
}

/// A path of a unix socket that a profile cannot name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnusablePath(pub(crate) PathBuf);

impl SeatbeltPlan {
    /// The program and the arguments that start `command` confined.
    ///
    /// # Errors
    ///
    /// When the path of a unix socket is not absolute, or not plain text.
    pub(crate) fn command_line(&self, command: &[OsString]) -> Result<Vec<OsString>, UnusablePath> {
        let mut line: Vec<OsString> =
            vec![SANDBOX_EXEC.into(), "-p".into(), self.profile()?.into()];
        // A command that begins with a hyphen is no option.
        line.push("--".into());
        line.extend_from_slice(command);
        Ok(line)
    }

    /// The profile. The last rule that matches an operation decides.
    fn profile(&self) -> Result<String, UnusablePath> {
        let mut rules = vec![
            "(version 1)".to_owned(),
            "(allow default)".to_owned(),
            "(deny network*)".to_owned(),
        ];
        for port in &self.ports {
            rules.push(format!(
                "(allow network-outbound (remote ip \"localhost:{port}\"))"
            ));
        }
        for path in &self.unix_sockets {
            let unusable = || UnusablePath(path.clone());
            let text = path.to_str().filter(|_| path.is_absolute());
            let text = text.filter(|text| !text.chars().any(char::is_control));
            let text = quoted(text.ok_or_else(unusable)?);
            rules.push(format!(
                "(allow network-outbound (remote unix-socket (path-literal {text})))"
            ));
        }
        for service in TRUST_SERVICES {
            rules.push(format!("(allow mach-lookup (global-name \"{service}\"))"));
        }
        rules.push(String::new());
        Ok(rules.join("\n"))
    }
}

/// A string of the profile's language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j8_the_profile_permits_the_doors_and_the_listed_sockets_only() {
        let plan = SeatbeltPlan {
            ports: vec![3128, 1080],
            unix_sockets: vec!["/tmp/a \"b\\".into()],
        };
        let line = plan
            .command_line(&["-x".into(), "y".into()])
            .expect("a line");
        let profile = "(version 1)\n\
            (allow default)\n\
            (deny network*)\n\
            (allow network-outbound (remote ip \"localhost:3128\"))\n\
            (allow network-outbound (remote ip \"localhost:1080\"))\n\
            (allow network-outbound (remote unix-socket (path-literal \"/tmp/a \\\"b\\\\\")))\n\
            (allow mach-lookup (global-name \"com.apple.trustd.agent\"))\n\
            (allow mach-lookup (global-name \"com.apple.TrustEvaluationAgent\"))\n";
        let expected = ["/usr/bin/sandbox-exec", "-p", profile, "--", "-x", "y"];
        assert_eq!(line, expected.map(OsString::from));
    }

    #[test]
    fn j8_a_path_cannot_add_rules() {
        for path in ["relative", "/a\n(allow default)"] {
            let plan = SeatbeltPlan {
                unix_sockets: vec![path.into()],
                ..SeatbeltPlan::default()
            };
            let refused = plan.command_line(&[]);
            assert_eq!(refused, Err(UnusablePath(path.into())));
        }
    }
}
