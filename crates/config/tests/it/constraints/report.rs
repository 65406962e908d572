//! Report-only (SPEC P12) under requirements, and its warning.

use codex_network_policy::{Enforcement, Narrowing};

use super::Root;

#[test]
fn p12_c6_report_only_is_refused_where_requirements_enforce_or_reserve_the_allow_list() {
    let report = "enforcement = \"report\"";
    let enforcement = |root: &Root, network: &str| root.settings(network).policy.enforcement();
    assert_eq!(enforcement(&Root::new(), report), Enforcement::Report);
    let learning = |root: &Root| {
        let rules = Narrowing {
            enforcement: Enforcement::Report,
            ..Narrowing::default()
        };
        let session = root.settings("").policy.narrowed(&rules);
        session.expect("short lists").enforcement()
    };
    assert_eq!(learning(&Root::new()), Enforcement::Report);
    for (required, reason) in [
        (
            "enforcement = \"enforce\"",
            "ROOT/etc/codex/requirements.toml:2 has `enforcement = \"enforce\"`",
        ),
        (
            "managed_allowed_domains_only = true",
            "ROOT/etc/codex/requirements.toml:2 has `managed_allowed_domains_only = true`",
        ),
    ] {
        let root = Root::requiring(required);
        assert_eq!(enforcement(&root, ""), Enforcement::Enforce);
        let silent = enforcement(&root, "enforcement = \"enforce\"");
        assert_eq!(silent, Enforcement::Enforce);
        // A session that was opened before the requirement was there learns no more.
        assert_eq!(learning(&root), Enforcement::Enforce);
        let refused = root.messages(&root.sources(&format!("[network]\n{report}\n")));
        let message = "invalid value for network.enforcement: report (allowed enforce)";
        assert!(refused.contains(message), "{refused}");
        assert!(refused.contains(reason), "{refused}");
        let profile = format!(
            "default_permissions = \"q\"\n[permissions.q.network]\n[permissions.p.network]\n{report}\n"
        );
        let left_out = root.messages(&root.sources(&profile));
        assert!(left_out.contains(message), "{left_out}");
        assert!(!root.loaded(&profile).settings.profiles.contains_key("p"));
    }
    // The requirement `report` requires nothing.
    let lax = Root::requiring(report);
    assert_eq!(enforcement(&lax, ""), Enforcement::Enforce);
    assert_eq!(enforcement(&lax, report), Enforcement::Report);
    let pins = Root::requiring("enforcement = \"enforce\"")
        .settings("")
        .managed;
    let pin = pins.pins().iter().find(|pin| pin.key == "enforcement");
    assert_eq!(pin.map(|pin| pin.allowed.as_str()), Some("enforce"));
}

#[test]
fn p12_report_only_is_a_warning_at_its_line() {
    let root = Root::new();
    let text = "[network]\nallowed_domains = [\"a.test\"]\nenforcement = \"report\"\n";
    let messages = root.messages(&root.sources(text));
    assert!(messages.contains("user.toml:3:1"), "{messages}");
    assert!(
        messages.contains("hosts that are merely not allowed are let through"),
        "{messages}"
    );
    let profiles = "default_permissions = \"q\"\n[permissions.q.network]\n[permissions.p.network]\n\
                    enforcement = \"report\"\n";
    let messages = root.messages(&root.sources(profiles));
    assert!(messages.contains("user.toml:4:1"), "{messages}");
    assert!(
        messages.contains(
            "in sessions with the profile `p`, hosts that are merely not allowed are let through"
        ),
        "{messages}"
    );
    assert_eq!(messages.matches("warning").count(), 1, "{messages}");
    let enforced = root.messages(&root.sources("[network]\nenforcement = \"enforce\"\n"));
    assert!(!enforced.contains("warning"), "{enforced}");
    let other = root.messages(&root.sources("[network]\nenforcement = \"off\"\n"));
    assert!(other.contains("\"report\""), "{other}");
}
