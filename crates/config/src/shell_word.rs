//! Text as one word of a command for a shell, as messages advise commands.

use std::borrow::Cow;

/// The text as one word of a POSIX shell: in single quotes if it has a character that a shell may interpret.
pub fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:@%+,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_a_word_of_an_advised_command_is_what_the_shell_takes() {
        for (text, word) in [
            ("a.test", "a.test"),
            ("/run/user/7/a.sock", "/run/user/7/a.sock"),
            ("*.example.com", "'*.example.com'"),
            ("", "''"),
            ("a b", "'a b'"),
            ("~/a", "'~/a'"),
            ("it's; $(x)", r"'it'\''s; $(x)'"),
        ] {
            assert_eq!(shell_word(text), word);
            // A shell says the same.
            let shell = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {word}"))
                .output();
            let printed = shell.expect("every system has a shell").stdout;
            assert_eq!(String::from_utf8_lossy(&printed), text);
        }
    }
}
