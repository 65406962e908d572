//! The command that adds a host to the allow list, as refusals and lists advise it (SPEC W3).

use crate::shell_word;

/// `proxyctl allow PATTERN`, as a shell takes it.
///
/// A pattern that begins with a hyphen stands behind `--`. A host that looks like the id of a question ends in a dot,
/// which `proxyctl` asks for.
pub fn allow_command(pattern: &str) -> String {
    let mark = if pattern.starts_with('-') { "-- " } else { "" };
    let is_like_an_id = pattern.len() == 8 && pattern.bytes().all(|byte| byte.is_ascii_hexdigit());
    let dot = if is_like_an_id { "." } else { "" };
    format!("proxyctl allow {mark}{}{dot}", shell_word(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_the_advised_command_takes_every_host() {
        for (host, command) in [
            ("a.test", "proxyctl allow a.test"),
            ("-x.test", "proxyctl allow -- -x.test"),
            ("--help", "proxyctl allow -- --help"),
            ("0a1b2c3d", "proxyctl allow 0a1b2c3d."),
            ("::1", "proxyctl allow ::1"),
            ("*.example.com", "proxyctl allow '*.example.com'"),
            ("**.a-[bc].test", "proxyctl allow '**.a-[bc].test'"),
        ] {
            assert_eq!(allow_command(host), command);
        }
    }
}
