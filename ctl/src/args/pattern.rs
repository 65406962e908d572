//! Patterns on the command line.

use codex_network_policy::{ListKind, Pattern};

/// Checks a pattern of an allow list.
pub(super) fn allowed(text: &str) -> Result<String, String> {
    pattern(text, ListKind::Allow)
}

/// Checks a pattern of a deny list.
pub(super) fn denied(text: &str) -> Result<String, String> {
    pattern(text, ListKind::Deny)
}

fn pattern(text: &str, list: ListKind) -> Result<String, String> {
    if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "`approve ID` and `reject ID` answer the question with this ID; a host of this name is written `{text}.`"
        ));
    }
    let parsed = Pattern::parse(text, list).map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q6_the_id_of_a_question_is_no_pattern_and_a_host_of_that_name_is_one() {
        let refused = denied("0a1b2c3d").expect_err("an id");
        assert!(refused.contains("`0a1b2c3d.`"), "{refused}");
        assert_eq!(denied("0a1b2c3d.").as_deref(), Ok("0a1b2c3d"));
        assert_eq!(allowed("0a1b2c3d.test").as_deref(), Ok("0a1b2c3d.test"));
    }
}
