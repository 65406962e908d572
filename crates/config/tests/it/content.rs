//! A message for users who may not read a file holds nothing of the file (SPEC A1, B4): the test
//! puts a word in every place of a file and looks for it in every finding.

use codex_network_config::{Diagnostic, Sources, keys, load};
use proptest::prelude::*;

/// Not a key, not a keyword, and not a part of any message.
const WORD: &str = "s3cr3tw0rd";

/// Values of every type that hold the word.
fn values() -> [String; 9] {
    [
        format!("\"{WORD}\""),
        format!("[\"{WORD}\"]"),
        format!("[\"https://{WORD}/\", \"a {WORD}\", \"{WORD}:1\", \"*.{WORD}.*\", \"?{WORD}\"]"),
        format!("[[\"{WORD}\"]]"),
        format!("{{ {WORD} = 1 }}"),
        format!("{{ {WORD} = \"{WORD}\" }}"),
        format!("{{ \"/{WORD}\" = \"{WORD}\", \"{WORD}.*\" = \"allow\", \"{WORD}\" = [] }}"),
        format!("{{ {WORD} = {{ {WORD} = \"{WORD}\" }} }}"),
        format!("[{{ {WORD} = \"{WORD}\", name = \"{WORD}\", secret_file = \"{WORD}\" }}]"),
    ]
}

/// All messages about these sources for users who may not read them.
fn outlined(sources: &Sources) -> String {
    let findings: Vec<String> = match load(sources) {
        Err(errors) => errors.iter().map(Diagnostic::without_content).collect(),
        Ok(loaded) => {
            let found = loaded.warnings.iter().chain(&loaded.notes);
            found.map(Diagnostic::without_content).collect()
        }
    };
    findings.join("\n")
}

#[track_caller]
fn assert_silent(sources: &Sources, text: &str) {
    let findings = outlined(sources);
    assert!(
        !findings.contains(WORD),
        "{text}\nhas the findings\n{findings}"
    );
}

fn file(text: &str) -> Sources {
    Sources::none()
        .with_text("config.toml", text)
        .with_environment(|_| None)
}

/// A table's header, with the word in place of a name that the user chooses.
fn header(table: &str) -> String {
    let table = table.replace("NAME", WORD);
    let own = [
        "network_proxy",
        "network",
        "permissions",
        "daemon",
        "experimental_network",
    ];
    if table.is_empty() || own.contains(&table.split('.').next().unwrap_or_default()) {
        table
    } else {
        format!("network.{table}")
    }
}

#[test]
fn a1_no_value_of_any_key_is_in_a_message_without_content() {
    let mut tried = 0;
    for (table, key) in keys() {
        let table = header(&table);
        for value in values() {
            let selects = format!("default_permissions = \"{WORD}\"\n");
            for first in ["", &selects] {
                let text = match table.as_str() {
                    "" => format!("{key} = {value}\n"),
                    table => format!("{first}[{table}]\n{key} = {value}\n"),
                };
                assert_silent(&file(&text), &text);
                tried += 1;
            }
            let assignment = format!("{table}.{key}={value}");
            assert_silent(&Sources::none().with_override(&assignment), &assignment);
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a1_no_key_and_no_name_is_in_a_message_without_content() {
    let hook = format!(
        "[network.mitm.hooks.{WORD}]\nhost = \"{WORD}!\"\nmethods = [\"{WORD} \"]\npath_prefixes = [\"{WORD}\"]\n\
         query = {{ {WORD} = [] }}\nheaders = {{ \"{WORD} \" = [\"{WORD}\\n\"] }}\naction = [\"{WORD}\"]\nbody = \"{WORD}\"\n"
    );
    let action = format!(
        "[network.mitm.actions.{WORD}]\nstrip_request_headers = [\"{WORD} \", \"host\"]\n\
         [[network.mitm.actions.{WORD}.inject_request_headers]]\nname = \"{WORD}\"\nsecret_env_var = \"{WORD}\"\n\
         [[network.mitm.actions.{WORD}.inject_request_headers]]\nname = \"{WORD} \"\nsecret_file = \"{WORD}\"\nprefix = \"{WORD}\\n\"\n\
         [[network.mitm.actions.{WORD}.inject_request_headers]]\nname = \"x\"\nsecret_file = \"/{WORD}\"\n"
    );
    let mut texts = vec![
        hook,
        action,
        format!("{WORD} = 1\n[network]\n{WORD} = 1\n"),
        format!("[{WORD}]\n[networ]\n{WORD} = 1\n"),
        format!("[network]\nmode = \"{WORD}\"\nmode = \"{WORD}\"\n"),
        format!("[network]\n{WORD} = 1\n{WORD} = 2\n[{WORD}]\n[{WORD}]\n"),
        format!("[permissions.{WORD}.network]\nmode = \"full\"\n"),
        format!("default_permissions = \"{WORD}\"\n[permissions.other.network]\n"),
        format!("default_permissions = \"other\"\n[permissions.{WORD}.network]\n"),
        format!("default_permissions = \"{WORD}\"\n[permissions]\n{WORD} = 1\n"),
        format!(
            "default_permissions = \"{WORD}\"\n[network]\n[permissions.{WORD}.network]\nallowed_domains = []\ndomains = {{ {WORD} = 1 }}\n"
        ),
        format!("[network]\nproxy_url = \"{WORD}:{WORD}\"\nsocks_url = \"[{WORD}]:1\"\n"),
        format!("[daemon]\nlog = \"\"\n[daemon.control]\nobservers = [\"@{WORD} \"]\n"),
    ];
    for key in ["network", "daemon", "permissions", "default_permissions"] {
        texts.push(format!("{key} = \"{WORD}\"\n"));
        texts.push(format!("{key} = [{{ {WORD} = \"{WORD}\" }}]\n"));
    }
    for text in &texts {
        assert_silent(&file(text), text);
    }
    for assignment in [
        WORD.to_owned(),
        format!("\"{WORD}=1"),
        format!("network.{WORD}={WORD}"),
        format!("network.mode={WORD}"),
        format!("network.mode=[{WORD}"),
        format!("[{WORD}]=1"),
    ] {
        assert_silent(&Sources::none().with_override(&assignment), &assignment);
    }
}

#[test]
fn c6_a1_no_value_beyond_a_requirement_is_in_a_message_without_content() {
    let root = tempfile::tempdir().expect("a directory");
    let etc = root.path().join("etc/codex");
    std::fs::create_dir_all(&etc).expect("a directory");
    let required = format!(
        "[experimental_network]\nunix_sockets = [\"/run/{WORD}\"]\nallow_local_binding = false\nallowed_domains = [\"{WORD}.example\"]\n\
         [experimental_network.daemon]\nuser = \"{WORD}\"\ngroup = \"{WORD}\"\nlog = \"{WORD}\"\n\
         [experimental_network.daemon.resolver]\nhosts_file = \"/{WORD}\"\n"
    );
    std::fs::write(etc.join("requirements.toml"), required).expect("a file");
    let text = format!(
        "[network]\nallow_unix_sockets = [\"/{WORD}\"]\nallowed_domains = [\"{WORD}.localhost\"]\n\
         [daemon]\nuser = \"{WORD}1\"\ngroup = \"{WORD}1\"\nlog = \"{WORD}1\"\n[daemon.resolver]\nhosts_file = \"{WORD}\"\n"
    );
    let sources = file(&text).with_requirements_under(root.path());
    let findings = outlined(&sources);
    assert_eq!(
        findings.matches("invalid value for ").count(),
        6,
        "{findings}"
    );
    assert!(!findings.contains(WORD), "{findings}");
}

/// The helpful parts that do not come from the file stay.
#[test]
fn a1_our_own_words_stay_in_a_message_without_content() {
    let text = "[network]\nmod = \"limited\"\nmode = \"x\"\nallow_local_binding = \"true\"\n";
    let findings = outlined(&file(text));
    for part in [
        "error: config.toml:2:1: unknown key `…` in [network]\n  help: did you mean `mode`?",
        "error: config.toml:3:8: `mode` must be \"full\" or \"limited\", not `…`",
        "error: config.toml:4:23: `allow_local_binding` must be `true` or `false`, not a string",
    ] {
        assert!(findings.contains(part), "{part}\nis not in\n{findings}");
    }
}

proptest! {
    /// Syntax errors too, whatever surrounds the word.
    #[test]
    fn a1_no_syntax_error_has_content(before in "[\\[\\]{}=\"'.,# a-z0-9\\\\\n]{0,12}", after in "[\\[\\]{}=\"'.,# a-z0-9\\\\\n]{0,12}") {
        let text = format!("[network]\n{before}{WORD}{after}");
        let findings = outlined(&file(&text));
        prop_assert!(!findings.contains(WORD), "{text}\nhas the findings\n{findings}");
    }
}
