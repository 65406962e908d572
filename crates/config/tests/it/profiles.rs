//! Permission profiles: `extends` (SPEC C9), profiles that are not selected (SPEC C13), and those that
//! sessions may choose (SPEC J4). Presets (SPEC J16).

use std::fmt::Write as _;
use std::path::PathBuf;

use codex_network_config::{Loaded, Principal, ProfileUsers, SERVICE_PRESETS, Sources, load};
use codex_network_policy::{DomainSet, Mode, Policy};

fn sources(text: &str) -> Sources {
    Sources::none().with_text("config.toml", text)
}

#[track_caller]
fn loaded(text: &str) -> Loaded {
    load(&sources(text)).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// Errors, or warnings and notes, of each text.
fn messages(texts: &[&str]) -> String {
    let mut all = String::new();
    for text in texts {
        match load(&sources(text)) {
            Ok(loaded) => {
                for found in loaded.warnings.iter().chain(&loaded.notes) {
                    writeln!(all, "{found}").expect("a string");
                }
            }
            Err(errors) => writeln!(all, "{errors}").expect("a string"),
        }
        all.push_str("----\n");
    }
    all
}

fn texts(set: &DomainSet) -> Vec<String> {
    let mut rules: Vec<_> = set.rules().map(|rule| rule.to_string()).collect();
    rules.sort();
    rules
}

fn lists(policy: &Policy) -> (Vec<String>, Vec<String>) {
    (texts(policy.allowed()), texts(policy.denied()))
}

const CHAIN: &str = "default_permissions = \"child\"
[permissions.base]
description = \"what everyone may do\"
[permissions.base.network]
mode = \"limited\"
allow_local_binding = true
[permissions.base.network.domains]
\"A.example.\" = \"deny\"
\"b.example\" = \"allow\"
\"c.example\" = \"deny\"
\"d.example\" = \"allow\"
[permissions.base.network.unix_sockets]
\"/run//x.sock\" = \"deny\"
[permissions.middle]
extends = \"base\"
[permissions.middle.network]
enable_socks5 = false
[permissions.child]
extends = \"middle\"
[permissions.child.network]
mode = \"full\"
[permissions.child.network.domains]
\"a.example\" = \"allow\"
\"d.example\" = \"none\"
[permissions.child.network.unix_sockets]
\"/run/x.sock\" = \"allow\"
";

#[test]
fn c9_the_entries_of_the_child_win_over_the_parents_in_any_spelling() {
    let settings = loaded(CHAIN).settings;
    let (allowed, denied) = lists(&settings.policy);
    assert_eq!(
        allowed,
        ["a.example (config.toml:23)", "b.example (config.toml:9)"]
    );
    assert_eq!(denied, ["c.example (config.toml:10)"]);
    assert_eq!(settings.policy.mode(), Mode::Full, "the child's");
    assert!(settings.policy.allows_local_binding(), "inherited");
    assert!(settings.listen.socks5.is_none(), "from the middle");
    assert!(settings.unix_sockets.denied.is_empty());
    assert_eq!(
        settings.unix_sockets.allowed,
        [PathBuf::from("/run/x.sock")]
    );
}

#[test]
fn c9_lists_are_joined_so_that_a_deny_entry_of_the_parent_stays() {
    let text = "default_permissions = \"child\"
[permissions.base.network]
allowed_domains = [\"a.example\"]
denied_domains = [\"b.example\"]
[permissions.child]
extends = \"base\"
[permissions.child.network]
allowed_domains = [\"b.example\", \"c.example\"]
denied_domains = [\"d.example\"]
";
    let (allowed, denied) = lists(&loaded(text).settings.policy);
    assert_eq!(
        allowed,
        [
            "a.example (config.toml:3)",
            "b.example (config.toml:8)",
            "c.example (config.toml:8)"
        ]
    );
    assert_eq!(
        denied,
        ["b.example (config.toml:4)", "d.example (config.toml:9)"]
    );
}

#[test]
fn c9_a_child_without_a_network_table_has_its_parents() {
    let text = "default_permissions = \"child\"
[permissions.base.network.domains]
\"a.example\" = \"allow\"
[permissions.child]
extends = \"base\"
";
    let (allowed, _) = lists(&loaded(text).settings.policy);
    assert_eq!(allowed, ["a.example (config.toml:3)"]);
}

#[test]
fn c9_hooks_of_a_parent_stay_and_bind() {
    let text = "default_permissions = \"child\"
[permissions.base.network.mitm.hooks.api]
host = \"api.example.com\"
methods = [\"GET\"]
path_prefixes = [\"/v1/\"]
[permissions.child]
extends = \"base\"
[permissions.child.network.mitm.hooks.other]
host = \"other.example.com\"
methods = [\"GET\"]
path_prefixes = [\"/\"]
";
    let settings = loaded(text).settings;
    let hooks = settings.mitm.hooks.iter();
    let names: Vec<_> = hooks.map(|(_, hook)| hook.name.clone()).collect();
    assert_eq!(names, ["api", "other"]);
}

#[test]
fn c9_chains_that_lead_nowhere_are_errors_that_show_the_chain() {
    let longest: String = (0..20).fold("default_permissions = \"p0\"\n".to_owned(), |text, n| {
        format!("{text}[permissions.p{n}]\nextends = \"p{}\"\n", n + 1)
    });
    let messages = messages(&[
        "default_permissions = \"a\"\n[permissions.a]\nextends = \"b\"\n[permissions.b]\nextends = \"bse\"\n[permissions.base.network]\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \"b\"\n[permissions.b]\nextends = \"c\"\n[permissions.c]\nextends = \"a\"\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \"a\"\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = [\"b\"]\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \":workspce\"\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \"b\"\n[permissions.a.network]\nmitm = true\n[permissions.b.network.mitm.hooks]\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \"b\"\n[permissions.a.network.domains]\n[permissions.b.network]\nallowed_domains = []\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \"b\"\n[permissions.a.network]\n[permissions.b]\nnetwork = 5\n",
    ]);
    insta::assert_snapshot!(messages);
    let error = load(&sources(&longest)).expect_err("too long").one_line();
    let expected = "config.toml:33:11: the chain of `extends` has more than 16 profiles";
    assert_eq!(error, expected);
}

#[test]
fn c9_codexs_own_profiles_have_no_network_rules() {
    let messages = messages(&[
        "default_permissions = \":workspace\"\n",
        "default_permissions = \":read-only\"\n[permissions.x.network]\n",
        "default_permissions = \":danger-full-access\"\n[network]\n",
        "default_permissions = \":workspce\"\n",
        "[permissions.\":mine\".network]\n",
        "default_permissions = \"a\"\n[permissions.a]\nextends = \":workspace\"\n[permissions.a.network]\n",
    ]);
    insta::assert_snapshot!(messages);
    let settings = loaded("default_permissions = \":danger-full-access\"\n").settings;
    assert!(settings.policy.allowed().is_empty());
}

#[test]
fn c13_a_profile_that_is_not_selected_beside_an_older_form_is_a_warning() {
    let messages = messages(&[
        "[network]\n[permissions.dev.network]\n[permissions.files]\nfilesystem = {}\n",
        "[permissions.dev.network]\n[network_proxy]\n",
        "[network]\n[permissions.dev.network]\n[daemon.sessions.profiles]\ndev = [\"*\"]\n",
        "default_permissions = \"dev\"\n[permissions.dev.network.domains]\n[permissions.ci.network]\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn j4_sessions_may_choose_every_profile_without_an_error() {
    let text = format!(
        "{CHAIN}[permissions.broken.network]\nenabld = true\n[permissions.files]\nfilesystem = {{}}\n"
    );
    let loaded = loaded(&text);
    let settings = &loaded.settings;
    let names: Vec<_> = settings.profiles.keys().collect();
    assert_eq!(names, ["base", "child", "middle"]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let broken = "warning: config.toml:28:1: sessions cannot choose the profile `broken`: unknown key `enabld` in [permissions.broken.network]";
    assert!(
        warnings.iter().any(|warning| warning.starts_with(broken)),
        "{warnings:#?}"
    );

    let base = settings.with_profile("base").expect("a profile");
    let (allowed, denied) = lists(&base.policy);
    assert_eq!(
        allowed,
        ["b.example (config.toml:9)", "d.example (config.toml:11)"]
    );
    assert_eq!(denied.len(), 2);
    assert_eq!(base.policy.mode(), Mode::Limited);
    assert_eq!(base.listen, settings.listen, "of the selected profile");
    assert_eq!(base.unix_sockets.denied, [PathBuf::from("/run//x.sock")]);
    assert!(settings.with_profile("broken").is_none());
    let selected = settings.with_profile("child").expect("the selected one");
    assert_eq!(lists(&selected.policy), lists(&settings.policy));
}

#[test]
fn j4_a_profile_does_not_switch_a_proxy_on() {
    let text = "[network]
enabled = false
[permissions.dev.network]
mode = \"limited\"
[daemon.sessions.profiles]
dev = [\"*\"]
";
    let settings = loaded(text).settings;
    let dev = settings.with_profile("dev").expect("a profile");
    assert!(!dev.policy.is_enabled());
    assert!(dev.policy.refuses_everything().is_some());
    assert!(!settings.intercepts());
    assert!(settings.may_intercept(), "a session may be limited");
}

#[test]
fn j4_requirements_bound_profiles_that_are_not_selected() {
    let requirements = "[experimental_network]
mode = \"limited\"
allowed_domains = [\"managed.example\"]
denied_domains = [\"denied.example\"]
";
    let text = "default_permissions = \"dev\"
[permissions.dev.network]
[permissions.ci.network.domains]
\"a.example\" = \"allow\"
[permissions.wide.network]
mode = \"full\"
";
    let bounded = sources(text).with_requirements_text("requirements.toml", requirements);
    let loaded = load(&bounded).expect("the selected profile is within bounds");
    let profiles = &loaded.settings.profiles;
    let names: Vec<_> = profiles.keys().collect();
    assert_eq!(names, ["ci", "dev"]);
    let ci = &profiles["ci"].policy;
    assert_eq!(ci.mode(), Mode::Limited);
    let (allowed, denied) = lists(ci);
    assert_eq!(
        allowed,
        [
            "a.example (config.toml:4)",
            "managed.example (requirements.toml:3)"
        ]
    );
    assert_eq!(denied, ["denied.example (requirements.toml:4)"]);
    let (allowed, denied) = lists(&loaded.settings.policy);
    assert_eq!(allowed, ["managed.example (requirements.toml:3)"]);
    assert_eq!(denied, ["denied.example (requirements.toml:4)"]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(
        warnings[0]
            .contains("sessions cannot choose the profile `wide`: invalid value for network.mode")
    );
}

#[test]
fn j4_there_is_a_bound_on_profiles() {
    let text: String = (0..300).fold("[network]\n".to_owned(), |text, n| {
        format!("{text}[permissions.p{n}.network]\n")
    });
    let loaded = loaded(&text);
    assert_eq!(loaded.settings.profiles.len(), 256);
    let left_out = "sessions cannot choose the profile `p256`";
    let is_it = |warning: &str| warning.contains(left_out);
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| is_it(&warning.message))
            || loaded.warnings.len() == 100
    );
}

#[test]
fn j4_j13_sessions_have_limits_and_profiles_have_users() {
    let text = "[network]
[permissions.dev.network]
[permissions.ci.network]
[daemon.control]
users = [\"alice\", \"@dev\"]
[daemon.sessions]
max = 0
max_per_user = 3
[daemon.sessions.profiles]
dev = [\"bob\", \"@dev\"]
ci = [\"*\"]
";
    let daemon = loaded(text).settings.daemon;
    let user = |name: &str| Principal::User(name.to_owned());
    let dev = Principal::Group("dev".to_owned());
    assert_eq!(daemon.control.users, [user("alice"), dev.clone()]);
    let sessions = daemon.sessions;
    assert_eq!(
        (
            sessions.max,
            sessions.max_per_user,
            sessions.max_connections
        ),
        (0, 3, 512)
    );
    let profiles = sessions.profiles.expect("a table");
    assert_eq!(profiles["dev"], ProfileUsers::Only(vec![user("bob"), dev]));
    assert_eq!(profiles["ci"], ProfileUsers::Everyone);
    let sessions = loaded("").settings.daemon.sessions;
    assert_eq!((sessions.max, sessions.max_per_user), (1024, 64));
    assert_eq!(sessions.profiles, None);
}

#[test]
fn j4_wrong_users_of_profiles_are_found() {
    let messages = messages(&[
        "[permissions.build.network]\n[network]\n[daemon.sessions.profiles]\nbuild = [\"*\"]\nbiuld = [\"alice\"]\n",
        "[daemon.sessions]\nprofiles = [\"dev\"]\n",
        "[daemon.sessions.profiles]\ndev = \"alice\"\nci = [\"@\", 5, \"a b\"]\n",
        "[daemon.sessions]\nmax = -1\nmax_per_user = 100000\nmax_connections = 0\nmax_conections = 1\n",
        "[daemon.control]\nusers = [\"\"]\nuser = []\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn j16_a_preset_is_an_allow_list_and_names_itself() {
    for (table, rules) in [
        ("[network]\n", "denied_domains = [\"gist.github.com\"]\n"),
        (
            "[network_proxy]\n",
            "[network_proxy.policy]\ndenied_domains = [\"gist.github.com\"]\n",
        ),
        (
            "default_permissions = \"dev\"\n[permissions.dev.network]\n",
            "domains = { \"gist.github.com\" = \"deny\" }\n",
        ),
    ] {
        let text = format!("{table}presets = [\"github\", \"github\"]\n{rules}");
        let settings = loaded(&text).settings;
        let (allowed, denied) = lists(&settings.policy);
        let github = SERVICE_PRESETS
            .iter()
            .find(|preset| preset.name == "github");
        let github = github.expect("a preset").patterns.iter();
        let expected: Vec<_> = github
            .map(|host| format!("{host} (preset github)"))
            .collect();
        assert_eq!(allowed, expected, "{table}");
        assert_eq!(denied.len(), 1, "{table}");
        assert_eq!(settings.presets, ["github"]);
        assert_eq!(settings.policy.mode(), Mode::Full);
    }
}

#[test]
fn j16_c6_with_managed_domains_only_presets_are_ignored_with_a_warning() {
    let requirements = "[experimental_network]\nmanaged_allowed_domains_only = true\n";
    let sources = sources("[network]\npresets = [\"github\"]\n")
        .with_requirements_text("requirements.toml", requirements);
    let loaded = load(&sources).expect("no error");
    assert!(loaded.settings.policy.allowed().is_empty());
    let warning = &loaded.warnings.first().expect("a warning").message;
    assert!(
        warning.starts_with("the entries that `presets` allows are ignored"),
        "{warning}"
    );
}

#[test]
fn j16_an_unknown_preset_is_an_error() {
    let messages = messages(&[
        "[network]\npresets = [\"githb\", \"npm\"]\n",
        "[network]\npresets = \"github\"\n",
    ]);
    insta::assert_snapshot!(messages);
}
