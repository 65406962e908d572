//! Tests of the change of one file: what it was, the change, what it becomes.

use std::fs;

use codex_network_config::Sources;
use codex_network_policy::{ListKind, Pattern};

use super::*;

/// A configuration of one file in a directory of its own, and the result of a change.
struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    fn new(content: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("10.toml"), content).expect("a new file");
        Self { directory }
    }

    fn with(self, name: &str, content: &str) -> Self {
        fs::write(self.directory.path().join(name), content).expect("a new file");
        self
    }

    /// Plans a change of the directory's files, whose main file is the first.
    fn plan(&self, verb: Verb, pattern: &str, comment: Option<&str>) -> Result<Planned, Refused> {
        let directory = self.directory.path();
        let configuration = Configuration {
            sources: Sources::directory(directory).without_requirements(),
            main: directory.join("10.toml"),
        };
        let change = ListChange {
            verb,
            pattern: Pattern::parse(pattern, ListKind::Allow).expect("a pattern"),
            comment: comment.map(str::to_owned),
        };
        plan(&configuration, &change)
    }

    #[track_caller]
    fn planned(&self, verb: Verb, pattern: &str, comment: Option<&str>) -> Plan {
        match self.plan(verb, pattern, comment) {
            Ok(Planned::Change(plan)) => *plan,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(&self, verb: Verb, pattern: &str) -> String {
        match self.plan(verb, pattern, None) {
            Err(Refused::Failed(why) | Refused::NotPermitted(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

/// Changes a file, undoes the change, and compares both with the expected texts.
#[track_caller]
fn changes(verb: Verb, before: &str, pattern: &str, comment: Option<&str>, after: &str) {
    let plan = Case::new(before).planned(verb, pattern, comment);
    assert_eq!(plan.new, after, "\n{}", plan.diff);
    if verb == Verb::Unset {
        return;
    }
    // The file with the entry is valid, and has the entry once.
    let undone = Case::new(after).planned(Verb::Unset, pattern, None);
    assert!(
        !undone.new.contains(&format!("\"{pattern}\"")),
        "{}",
        undone.new
    );
    let again = Case::new(after).plan(verb, pattern, comment);
    assert!(matches!(again, Ok(Planned::Done(_))), "{again:?}");
}

#[track_caller]
fn allows(before: &str, after: &str) {
    changes(Verb::Allow, before, "x.test", None, after);
}

#[track_caller]
fn denies(before: &str, after: &str) {
    changes(Verb::Deny, before, "x.test", None, after);
}

#[track_caller]
fn explains(before: &str, after: &str) {
    changes(Verb::Allow, before, "x.test", Some("why"), after);
}

#[track_caller]
fn unsets(before: &str, after: &str) {
    changes(Verb::Unset, before, "x.test", None, after);
}

#[test]
fn w3_an_entry_of_a_list_follows_the_form_of_the_list() {
    allows(
        "[network]\nallowed_domains = []\n",
        "[network]\nallowed_domains = [\"x.test\"]\n",
    );
    allows(
        "[network]\nallowed_domains = [\"a.test\", \"b.test\"] # hosts\nmode = \"full\"\n",
        "[network]\nallowed_domains = [\"a.test\", \"b.test\", \"x.test\"] # hosts\nmode = \"full\"\n",
    );
    allows(
        "[network]\nallowed_domains = [ \"a.test\" ]\n",
        "[network]\nallowed_domains = [ \"a.test\", \"x.test\" ]\n",
    );
    allows(
        "[network]\nallowed_domains = [\n  \"a.test\", # one\n  # two\n  \"b.test\", # three\n  # end\n]\n",
        "[network]\nallowed_domains = [\n  \"a.test\", # one\n  # two\n  \"b.test\", # three\n  # end\n  \"x.test\",\n]\n",
    );
    allows(
        "[network]\nallowed_domains = [\n\t'a.test',\n\t'b.test' # last\n]\n",
        "[network]\nallowed_domains = [\n\t'a.test',\n\t'b.test', # last\n\t\"x.test\"\n]\n",
    );
    allows(
        "[network]\nallowed_domains = [\n    # nothing yet\n]\n",
        "[network]\nallowed_domains = [\n    # nothing yet\n    \"x.test\",\n]\n",
    );
    allows(
        "network = { allowed_domains = [\"a.test\"], mode = \"full\" }\n",
        "network = { allowed_domains = [\"a.test\", \"x.test\"], mode = \"full\" }\n",
    );
    allows(
        "network.allowed_domains = [\"a.test\"]\n",
        "network.allowed_domains = [\"a.test\", \"x.test\"]\n",
    );
}

#[test]
fn w3_a_reason_is_a_comment_beside_the_entry() {
    explains(
        "[network]\nallowed_domains = [\"a.test\"]\n",
        "[network]\nallowed_domains = [\"a.test\",\n    \"x.test\", # why\n]\n",
    );
    explains(
        "[network]\nallowed_domains = [\n  \"a.test\"\n]\n",
        "[network]\nallowed_domains = [\n  \"a.test\",\n  \"x.test\" # why\n]\n",
    );
    explains(
        "",
        "[network]\nallowed_domains = [\n    \"x.test\", # why\n]\n",
    );
    explains(
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"a.test\" = \"allow\" # old\n",
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"a.test\" = \"allow\" # old\n\"x.test\" = \"allow\" # why\n",
    );
    explains(
        "features.network_proxy = { domains = { \"a.test\" = \"allow\" } } # rules\n",
        "features.network_proxy = { domains = { \"a.test\" = \"allow\", \"x.test\" = \"allow\" } } # rules # x.test: why\n",
    );
}

#[test]
fn w3_a_missing_list_or_table_is_added_where_it_belongs() {
    allows("", "[network]\nallowed_domains = [\"x.test\"]\n");
    allows(
        "# mine\n",
        "# mine\n\n[network]\nallowed_domains = [\"x.test\"]\n",
    );
    allows(
        "[network]\nmode = \"full\"\n\n# other\n[daemon]\nlog = \"info\"\n",
        "[network]\nmode = \"full\"\nallowed_domains = [\"x.test\"]\n\n# other\n[daemon]\nlog = \"info\"\n",
    );
    // The comments at the end stay with the table that they are in.
    allows(
        "[daemon]\nlog = \"info\"\n#log_flows = true\n",
        "[daemon]\nlog = \"info\"\n#log_flows = true\n\n[network]\nallowed_domains = [\"x.test\"]\n",
    );
    allows(
        "model = \"m\"",
        "model = \"m\"\n\n[network]\nallowed_domains = [\"x.test\"]\n",
    );
    allows(
        "[network_proxy]\nenabled = true\n\n[tui]\na = 1\n",
        "[network_proxy]\nenabled = true\n\n[network_proxy.policy]\nallowed_domains = [\"x.test\"]\n\n[tui]\na = 1\n",
    );
    allows(
        "network.mode = \"full\"\n",
        "network.mode = \"full\"\nnetwork.allowed_domains = [\"x.test\"]\n",
    );
    // Only a table below it has a header.
    allows(
        "# top\n[daemon]\nlog = \"info\"\n\n# below\n[network.mitm]\nenabled = false\n",
        "# top\n[daemon]\nlog = \"info\"\n\n[network]\nallowed_domains = [\"x.test\"]\n\n# below\n[network.mitm]\nenabled = false\n",
    );
    allows(
        "default_permissions = \"w\"\n[permissions.w.network.mitm]\nenabled = false\n# end\n",
        "default_permissions = \"w\"\n[permissions.w.network.mitm]\nenabled = false\n# end\n\n[permissions.w.network.domains]\n\"x.test\" = \"allow\"\n",
    );
    denies(
        "[network]\nallowed_domains = [\"a.test\"]\n",
        "[network]\nallowed_domains = [\"a.test\"]\ndenied_domains = [\"x.test\"]\n",
    );
}

#[test]
fn w3_the_form_in_force_is_changed() {
    allows(
        "[network_proxy.policy]\nallowed_domains = [\"a.test\"]\n",
        "[network_proxy.policy]\nallowed_domains = [\"a.test\", \"x.test\"]\n",
    );
    allows(
        "default_permissions = \"w\"\n\n[permissions.w.network]\nallowed_domains = [\"a.test\"]\n",
        "default_permissions = \"w\"\n\n[permissions.w.network]\nallowed_domains = [\"a.test\", \"x.test\"]\n",
    );
    allows(
        "default_permissions = \"w\"\n\n[permissions.w.network]\nmode = \"full\"\n\n[other]\n",
        "default_permissions = \"w\"\n\n[permissions.w.network]\nmode = \"full\"\n\n[permissions.w.network.domains]\n\"x.test\" = \"allow\"\n\n[other]\n",
    );
    allows(
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n  \"a.test\" = \"allow\"\n[permissions.v.network.domains]\n\"b.test\" = \"allow\"\n",
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n  \"a.test\" = \"allow\"\n  \"x.test\" = \"allow\"\n[permissions.v.network.domains]\n\"b.test\" = \"allow\"\n",
    );
    // A parent with lists: a map in the child would be an error.
    allows(
        "default_permissions = \"w\"\n[permissions.p.network]\nallowed_domains = [\"a.test\"]\n[permissions.w]\nextends = \"p\"\n",
        "default_permissions = \"w\"\n[permissions.p.network]\nallowed_domains = [\"a.test\"]\n[permissions.w]\nextends = \"p\"\n\n[permissions.w.network]\nallowed_domains = [\"x.test\"]\n",
    );
    allows(
        "[features.network_proxy]\nenabled = true\n",
        "[features.network_proxy]\nenabled = true\n\n[features.network_proxy.domains]\n\"x.test\" = \"allow\"\n",
    );
    allows(
        "[features]\nnetwork_proxy = true # on\n",
        "[features]\nnetwork_proxy = { enabled = true, domains = { \"x.test\" = \"allow\" } } # on\n",
    );
    allows(
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"a.test\" = \"allow\"\n[features.network_proxy.domains]\n\"b.test\" = \"allow\"\n",
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"a.test\" = \"allow\"\n[features.network_proxy.domains]\n\"b.test\" = \"allow\"\n\"x.test\" = \"allow\"\n",
    );
    allows(
        "profile = \"p\"\n[profiles.p.features.network_proxy.domains]\n\"a.test\" = \"allow\"\n",
        "profile = \"p\"\n[profiles.p.features.network_proxy.domains]\n\"a.test\" = \"allow\"\n\"x.test\" = \"allow\"\n",
    );
}

#[test]
fn w3_deny_takes_the_place_of_the_entry_that_allows() {
    denies(
        "[network]\nallowed_domains = [\"a.test\", \"X.test\", \"b.test\"]\ndenied_domains = [\"c.test\"]\n",
        "[network]\nallowed_domains = [\"a.test\", \"b.test\"]\ndenied_domains = [\"c.test\", \"x.test\"]\n",
    );
    denies(
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"x.test\" = \"allow\" # needed\n",
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"x.test\" = \"deny\" # needed\n",
    );
    allows(
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"x.test\" = \"none\"\n",
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"x.test\" = \"allow\"\n",
    );
}

#[test]
fn w3_unset_removes_the_entry_and_the_comment_beside_it() {
    unsets(
        "[network]\nallowed_domains = [\"x.test\"]\n",
        "[network]\nallowed_domains = []\n",
    );
    unsets(
        "[network]\nallowed_domains = [\"x.test\", \"b.test\"]\n",
        "[network]\nallowed_domains = [\"b.test\"]\n",
    );
    unsets(
        "[network]\nallowed_domains = [\n  \"a.test\", # a\n  # above\n  \"x.test\", # x\n  \"b.test\", # b\n]\n",
        "[network]\nallowed_domains = [\n  \"a.test\", # a\n  # above\n  \"b.test\", # b\n]\n",
    );
    unsets(
        "[network]\nallowed_domains = [\n  \"a.test\", # a\n  \"x.test\" # x\n]\n",
        "[network]\nallowed_domains = [\n  \"a.test\" # a\n]\n",
    );
    unsets(
        "[network]\nallowed_domains = [\n  \"x.test\",\n]\n",
        "[network]\nallowed_domains = []\n",
    );
    unsets(
        "[network]\nallowed_domains = [\"a.test\",\n    \"x.test\", # why\n]\n",
        "[network]\nallowed_domains = [\"a.test\"]\n",
    );
    unsets(
        "[network]\nallowed_domains = [\"a.test\", # a\n  \"x.test\"]\n",
        "[network]\nallowed_domains = [\"a.test\" # a\n]\n",
    );
    unsets(
        "[network]\nallowed_domains = [\"x.test\", 'x.TEST.']\ndenied_domains = [\"x.test\"]\n",
        "[network]\nallowed_domains = []\ndenied_domains = []\n",
    );
    unsets(
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n# all\n\"x.test\" = \"deny\" # x\n\"a.test\" = \"allow\"\n",
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n# all\n\"a.test\" = \"allow\"\n",
    );
    unsets(
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n\"x.test\" = \"deny\"\n",
        "default_permissions = \"w\"\n[permissions.w.network.domains]\n",
    );
}

#[test]
fn w3_marks_and_ends_of_lines_stay() {
    allows(
        "\u{feff}[network]\r\nallowed_domains = [\r\n  \"a.test\",\r\n]\r\n",
        "\u{feff}[network]\r\nallowed_domains = [\r\n  \"a.test\",\r\n  \"x.test\",\r\n]\r\n",
    );
}

#[test]
fn w3_deny_wins_and_the_refusal_names_the_entry() {
    for denied in ["x.test", "*.test", "**.x.test"] {
        let case = Case::new(&format!(
            "[network]\ndenied_domains = [\n  \"{denied}\",\n]\n"
        ));
        let why = case.refused(Verb::Allow, "x.test");
        assert!(why.starts_with("deny wins: "), "{why}");
        assert!(why.contains(&format!("{denied:?} in line 3 of ")), "{why}");
    }
    // A part of the hosts stays denied, as is usual.
    let case = Case::new("[network]\ndenied_domains = [\"a.x.test\", \"*.x.test\"]\n");
    case.planned(Verb::Allow, "**.x.test", None);
    assert!(
        case.refused(Verb::Allow, "*.x.test")
            .contains("\"*.x.test\"")
    );
}

#[test]
fn w3_no_change_is_made_that_is_not_needed_or_finds_nothing() {
    let case = Case::new("[network]\nallowed_domains = [\"**.x.test\"]\npresets = [\"github\"]\n");
    let planned = case.plan(Verb::Allow, "a.x.test", None);
    assert!(matches!(planned, Ok(Planned::Done(why)) if why.contains("**.x.test (")));
    let why = case.refused(Verb::Unset, "a.x.test");
    assert!(
        why.contains("neither list has an entry for a.x.test; **.x.test ("),
        "{why}"
    );
    let why = case.refused(Verb::Unset, "github.com");
    assert!(why.contains("a preset"), "{why}");
}

#[test]
fn w3_the_strongest_file_with_the_list_is_changed() {
    let lists = Case::new("[network]\nallowed_domains = [\"a.test\"]\n")
        .with("20.toml", "[network]\nallowed_domains = [\"b.test\"]\n")
        .with("30.toml", "[network]\nmode = \"full\"\n");
    let plan = lists.planned(Verb::Allow, "x.test", None);
    assert!(plan.file.ends_with("20.toml"), "{}", plan.file.display());
    // Neither file has a deny list: that of the allow list gets it.
    let plan = lists.planned(Verb::Deny, "x.test", None);
    assert!(plan.file.ends_with("20.toml"), "{}", plan.file.display());
    // A list that does not count.
    let why = lists.refused(Verb::Unset, "a.test");
    assert!(why.contains("neither list has an entry"), "{why}");

    let selector = "default_permissions = \"w\"\n";
    let maps = Case::new(&format!(
        "{selector}[permissions.w.network.domains]\n\"a.test\" = \"allow\"\n"
    ))
    .with(
        "20.toml",
        "[permissions.w.network.domains]\n\"b.test\" = \"allow\"\n",
    );
    let plan = maps.planned(Verb::Allow, "x.test", None);
    assert!(plan.file.ends_with("20.toml"), "{}", plan.file.display());
    let plan = maps.planned(Verb::Deny, "a.test", None);
    assert!(plan.file.ends_with("10.toml"), "{}", plan.file.display());
    let both = maps.with(
        "30.toml",
        "[permissions.w.network.domains]\n\"a.test\" = \"allow\"\n",
    );
    let why = both.refused(Verb::Unset, "a.test");
    assert!(why.contains("there is a.test ("), "{why}");
}

#[test]
fn w3_a_configuration_with_errors_is_not_changed() {
    let case = Case::new("[network]\nallowed_domans = []\n");
    let why = case.refused(Verb::Allow, "x.test");
    assert!(why.contains("has errors already"), "{why}");
    assert!(why.contains("did you mean `allowed_domains`?"), "{why}");
}

#[test]
fn w3_an_inherited_entry_is_not_removed() {
    let case = Case::new(
        "default_permissions = \"w\"\n[permissions.p.network.domains]\n\"x.test\" = \"allow\"\n[permissions.w]\nextends = \"p\"\n",
    );
    let why = case.refused(Verb::Unset, "x.test");
    assert!(why.contains("an inherited profile"), "{why}");
}

#[test]
fn w3_a_change_that_another_profile_would_feel_is_refused_and_named() {
    let before = Case::new(PROFILES);
    let settings = |case: &Case| {
        let sources = Sources::directory(case.directory.path()).without_requirements();
        load(&sources).expect("no error").settings
    };
    let change = ListChange {
        verb: Verb::Allow,
        pattern: Pattern::parse("x.test", ListKind::Allow).expect("a pattern"),
        comment: None,
    };
    let allowing = Case::new(&PROFILES.replace("\"s.test\"", "\"s.test\", \"x.test\""));
    let unchanged = judgement::after(&settings(&before), &settings(&allowing), &change);
    assert_eq!(unchanged, Ok(()));
    let other = Case::new(
        &PROFILES
            .replace("\"s.test\"", "\"s.test\", \"x.test\"")
            .replace("a.test", "b.test"),
    );
    let refused = judgement::after(&settings(&before), &settings(&other), &change);
    let Err(Refused::Failed(why)) = refused else {
        panic!("{refused:?}");
    };
    for entry in [
        "a.test in the profile \"other\"",
        "b.test in the profile \"other\"",
    ] {
        assert!(why.contains(entry), "{why}");
    }
}

const PROFILES: &str = "default_permissions = \"mine\"
[permissions.mine.network]
allowed_domains = [\"s.test\"]
[permissions.other.network]
allowed_domains = [\"a.test\"]
";
