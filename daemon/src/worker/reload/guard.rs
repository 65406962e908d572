//! A guarded reload: whether the settings have the change that it is for, and no other (SPEC C14).

use codex_network_config::Settings;
use codex_network_policy::EntryChange;

use crate::changes::Changes;
use crate::problems::ReloadError;

/// How many other changes are named.
const MAX_NAMED: usize = 8;
/// Characters of the line about a change.
const MAX_LINE: usize = 120;
/// Words for changes that `/config` does not show.
const NOT_SHOWN: &str = "values that are not shown, such as secrets";

/// Checks that the new settings differ from the old ones in this change at most.
///
/// # Errors
///
/// The other changes.
pub(super) fn check(old: &Settings, new: &Settings, only: &EntryChange) -> Result<(), ReloadError> {
    if old.differ_only_in(only, new) {
        return Ok(());
    }
    Err(ReloadError::other_changes(named(old, new, only)))
}

/// The other changes for people, one line each.
fn named(old: &Settings, new: &Settings, only: &EntryChange) -> Vec<String> {
    let expected = match only {
        EntryChange::Nothing => Vec::new(),
        EntryChange::Allow(pattern) => vec![format!("+ allow {pattern}")],
        EntryChange::Deny(pattern) => {
            vec![format!("+ deny {pattern}"), format!("- allow {pattern}")]
        }
        EntryChange::Unset(pattern) => {
            vec![format!("- allow {pattern}"), format!("- deny {pattern}")]
        }
    };
    let changes = Changes::between(old, new);
    let mut lines: Vec<String> = changes
        .lines()
        .filter(|line| !expected.contains(line))
        .collect();
    let profiles = old.other_profiles(only, new);
    lines.extend(profiles.iter().map(|name| format!("profile {name:?}")));
    if lines.is_empty() {
        lines.push(NOT_SHOWN.to_owned());
    }
    let more = lines.len().saturating_sub(MAX_NAMED);
    lines.truncate(MAX_NAMED);
    for line in &mut lines {
        if let Some((end, _)) = line.char_indices().nth(MAX_LINE) {
            line.truncate(end);
            line.push('…');
        }
    }
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use codex_network_config::{Sources, load};
    use codex_network_policy::{ListKind, Pattern};

    use super::*;

    const BEFORE: &str = "default_permissions = \"a\"\n\
        [permissions.a.network]\nenabled = true\n\
        [permissions.a.network.domains]\n\"kept.test\" = \"allow\"\n\"denied.test\" = \"deny\"\n\
        [permissions.b.network]\nenabled = true\n\
        [permissions.b.network.domains]\n\"b.test\" = \"allow\"\n";

    fn settings(text: &str) -> Settings {
        let sources = Sources::none()
            .with_text("a.toml", text)
            .with_environment(|_| Some("secret".into()));
        load(&sources).expect("a configuration").settings
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, ListKind::Allow).expect("a pattern")
    }

    /// The other changes, if this replacement is made and the reload is for `only`.
    fn others(old: &str, new: &str, only: &EntryChange) -> Vec<String> {
        assert!(BEFORE.contains(old), "{old}");
        let (before, after) = (settings(BEFORE), settings(&BEFORE.replacen(old, new, 1)));
        let mut others = match check(&before, &after, only) {
            Ok(()) => Vec::new(),
            Err(error) => error.other_changes,
        };
        // The selected profile is one that sessions may choose, too.
        others.retain(|line| line != "profile \"a\"");
        others
    }

    #[test]
    fn c14_a_reload_for_one_entry_has_this_entry_and_no_other() {
        let kept = "\"kept.test\" = \"allow\"\n";
        let allow = EntryChange::Allow(pattern("new.test"));
        let with = |more: &str| format!("{kept}{more}");
        let none: [&str; 0] = [];
        assert_eq!(
            others(kept, &with("\"new.test\" = \"allow\"\n"), &allow),
            none
        );
        assert_eq!(
            others(kept, &with("# a comment\n"), &EntryChange::Nothing),
            none
        );
        for (replaced, by, only, others_are) in [
            (
                kept,
                with("\"evil.test\" = \"allow\"\n"),
                &allow,
                "+ allow evil.test",
            ),
            (
                kept,
                with("\"new.test\" = \"deny\"\n"),
                &allow,
                "+ deny new.test",
            ),
            (
                "\"denied.test\" = \"deny\"\n",
                String::new(),
                &allow,
                "- deny denied.test",
            ),
            (
                kept,
                String::new(),
                &EntryChange::Nothing,
                "- allow kept.test",
            ),
            (
                "enabled = true\n",
                "enabled = true\nmode = \"limited\"\n".to_owned(),
                &allow,
                "mode: full -> limited",
            ),
            (
                "\"b.test\"",
                "\"evil.test\"".to_owned(),
                &allow,
                "profile \"b\"",
            ),
        ] {
            assert_eq!(others(replaced, &by, only), [others_are], "{by}");
        }
    }

    #[test]
    fn c14_each_change_has_its_direction() {
        let (kept, denied) = (
            "\"kept.test\" = \"allow\"\n",
            "\"denied.test\" = \"deny\"\n",
        );
        let unset = |text| EntryChange::Unset(pattern(text));
        let deny = EntryChange::Deny(pattern("kept.test"));
        assert!(others(kept, "", &unset("kept.test")).is_empty());
        assert!(others(denied, "", &unset("denied.test")).is_empty());
        assert!(others(kept, "\"kept.test\" = \"deny\"\n", &deny).is_empty());
        // A change in the other direction is another one.
        assert!(!others(kept, "", &EntryChange::Allow(pattern("kept.test"))).is_empty());
        assert!(!others(denied, "", &EntryChange::Deny(pattern("denied.test"))).is_empty());
        let readded = "\"denied.test\" = \"allow\"\n";
        assert!(!others(denied, readded, &unset("denied.test")).is_empty());
    }

    #[test]
    fn c14_the_other_changes_are_bounded_and_hidden_ones_count() {
        let line = |number: u32| format!("\"{number}.test\" = \"allow\"\n");
        let many: Vec<String> = (0..20).map(line).collect();
        let many = many.concat();
        let found = others("\"kept.test\" = \"allow\"\n", &many, &EntryChange::Nothing);
        assert_eq!(found.len(), MAX_NAMED + 1);
        // 20 new entries, the one that is gone, and the profile.
        assert_eq!(found[MAX_NAMED], "and 14 more");
        // `/config` shows the value of no secret.
        let hook = |secret: &'static str| {
            let text = "[permissions.a.network.mitm.hooks.h]\nhost = \"kept.test\"\nmethods = [\"GET\"]\n\
                 path_prefixes = [\"/\"]\naction = [\"w\"]\n[permissions.a.network.mitm.actions.w]\n\
                 inject_request_headers = [{ name = \"x\", secret_env_var = \"KEY\" }]\n";
            let sources = Sources::none()
                .with_text("a.toml", format!("{BEFORE}{text}"))
                .with_environment(move |_| Some(secret.into()));
            load(&sources).expect("a configuration").settings
        };
        let error = check(&hook("one"), &hook("two"), &EntryChange::Nothing);
        let found = error.expect_err("another secret").other_changes;
        assert_eq!(found, ["profile \"a\""]);
        let opened = "enabled = true\ndangerously_allow_non_loopback_proxy = true\n";
        let found = others("enabled = true\n", opened, &EntryChange::Nothing);
        assert_eq!(found, [NOT_SHOWN]);
    }
}
