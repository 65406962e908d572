//! Providers of credentials in configurations (SPEC B3, B5): what counts, and the messages.

use codex_network_config::{CredentialProvider, CredentialSource, Loaded, Sources, load};

/// Every key, in five lines and more.
const FULL: &str = r#"
[network]
credential_broker = true
allowed_domains = ["*.corp.example", "api.example.com"]

[network.credentials.corp]
env = ["CORP_TOKEN", "CORP_KEY"]
patterns = ["corp_[A-Za-z0-9]{40}"]
url_prefixes = ["https://api.corp.example/v1", "*.deep.corp.example:8443"]
auth = "header"
header = "X-Corp-Key"
prefix = "key "
source = { command = ["/usr/bin/corp", "token"], timeout = "3s", ttl = "1h" }
methods = ["get", "POST"]
require = true

[network.credentials.claude]
use = "anthropic"
source = { file = "/etc/keys/claude" }

[network.credentials.basic]
env = "BASIC_PASSWORD"
url_prefixes = ["https://api.example.com"]
auth = "basic"
username = "robot"
source = { systemd_credential = "basic" }

[network.credentials.team]
env = "TEAM_TOKEN"
url_prefix_from_env = "TEAM_URL"
"#;

fn loaded(texts: &[&str]) -> Loaded {
    let mut sources = Sources::none();
    for (index, text) in texts.iter().enumerate() {
        sources = sources.with_text(format!("{index}.toml"), *text);
    }
    load(&sources).unwrap_or_else(|errors| panic!("{texts:?}: {errors}"))
}

fn providers(texts: &[&str]) -> Vec<CredentialProvider> {
    loaded(texts).settings.credential_providers.to_vec()
}

/// The providers in short: `NAME: VARIABLES -> DESTINATIONS`.
fn short(providers: &[CredentialProvider]) -> Vec<String> {
    let join = |texts: Vec<String>| texts.join(" ");
    let shorts = providers.iter().map(|one| {
        let variables = one.variables.iter().map(ToString::to_string).collect();
        let destinations = one.destinations.iter().map(ToString::to_string).collect();
        format!("{}: {} -> {}", one.id, join(variables), join(destinations))
    });
    shorts.collect()
}

const BUILT_IN: [&str; 3] = [
    "github: GH_TOKEN GITHUB_TOKEN -> https://github.com https://api.github.com https://uploads.github.com https://*.ghe.com",
    "github-enterprise: GH_ENTERPRISE_TOKEN GITHUB_ENTERPRISE_TOKEN -> ",
    "openai: OPENAI_API_KEY -> https://api.openai.com",
];

#[test]
fn b3_the_broker_has_the_built_in_providers_and_without_it_there_are_none() {
    assert_eq!(short(&providers(&[""])), [""; 0]);
    let on = providers(&["[network]\ncredential_broker = true\n"]);
    assert_eq!(short(&on), BUILT_IN);
}

#[test]
fn b5_every_key_of_a_provider_counts() {
    let providers = providers(&[FULL]);
    insta::assert_debug_snapshot!(&providers[..4]);
    assert_eq!(short(&providers[4..]), BUILT_IN);
}

#[test]
fn b5_a_provider_has_the_same_keys_in_every_dialect() {
    let keys = "env = \"T\"\nurl_prefixes = [\"https://a.example\"]\n";
    for (top, table) in [
        ("[network_proxy]\n", "network_proxy"),
        ("[network]\n", "network"),
        (
            "default_permissions = \"dev\"\n[permissions.dev.network]\n",
            "permissions.dev.network",
        ),
    ] {
        let text = format!("{top}credential_broker = true\n[{table}.credentials.mine]\n{keys}");
        let providers = providers(&[&text]);
        assert_eq!(
            short(&providers[..1]),
            ["mine: T -> https://a.example"],
            "{table}"
        );
        let source = &providers[0].source;
        assert_eq!(*source, CredentialSource::Environment, "{table}");
    }
}

#[test]
fn b5_the_later_layer_wins_variable_by_variable() {
    let first = "[network]\ncredential_broker = true\n[network.credentials.one]\nenv = [\"A\", \"B\"]\nurl_prefixes = [\"one.example\"]\n";
    let second = "[network.credentials.two]\nenv = [\"B\", \"OPENAI_API_KEY\", \"GH_TOKEN\"]\nurl_prefixes = [\"two.example\"]\n";
    let with_both = providers(&[first, second]);
    assert_eq!(
        short(&with_both),
        [
            "one: A -> https://one.example",
            "two: B OPENAI_API_KEY GH_TOKEN -> https://two.example",
            "github: GITHUB_TOKEN -> https://github.com https://api.github.com https://uploads.github.com https://*.ghe.com",
            BUILT_IN[1],
        ]
    );
    // A layer that only changes a provider does not take the variables that another one names later.
    let third = "[network.credentials.one]\nrequire = true\n";
    assert_eq!(
        short(&providers(&[first, second, third])[..2]),
        [
            "one: A -> https://one.example",
            "two: B OPENAI_API_KEY GH_TOKEN -> https://two.example",
        ]
    );
    // A provider without a variable is left out.
    let all = "[network.credentials.two]\nenv = [\"A\", \"B\"]\nurl_prefixes = [\"two.example\"]\n";
    let left = providers(&[first, all]);
    assert_eq!(short(&left[..1]), ["two: A B -> https://two.example"]);
    assert_eq!(short(&left[1..]), BUILT_IN);
}

#[test]
fn b5_a_provider_with_the_name_of_a_built_in_one_replaces_it() {
    let text = "[network]\ncredential_broker = true\n[network.credentials.openai]\nuse = \"openai\"\nurl_prefixes = [\"https://llm.corp.example/v1\"]\n";
    let providers = providers(&[text]);
    assert_eq!(
        short(&providers),
        [
            "openai: OPENAI_API_KEY -> https://llm.corp.example/v1",
            BUILT_IN[0],
            BUILT_IN[1],
        ]
    );
    assert!(providers[0].destinations_from.is_empty());
    // With other variables too.
    let other = text.replace("use = \"openai\"", "env = \"LLM_KEY\"");
    let providers = self::providers(&[&other]);
    let own = "openai: LLM_KEY -> https://llm.corp.example/v1";
    assert_eq!(short(&providers), [own, BUILT_IN[0], BUILT_IN[1]]);
}

#[test]
fn j4_each_profile_has_its_own_providers() {
    let settings = loaded(&[
        "default_permissions = \"a\"\n[permissions.a.network]\nenabled = true\n[permissions.b.network]\ncredential_broker = true\n[permissions.b.network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\n",
    ])
    .settings;
    assert!(settings.credential_providers.is_empty() && !settings.credential_broker);
    let chosen = settings.with_profile("b").expect("a profile");
    assert!(chosen.credential_broker);
    assert_eq!(
        short(&chosen.credential_providers[..1]),
        ["mine: T -> https://a.example"]
    );
    let back = chosen.with_profile("a").expect("a profile");
    assert!(back.credential_providers.is_empty() && !back.credential_broker);
}

#[test]
fn b3_plain_http_needs_the_opt_in() {
    let text = |url: &str, opt_in: bool| {
        format!(
            "[network]\ncredential_broker = true\ndangerously_allow_plaintext_credential_injection = {opt_in}\nallow_local_binding = true\nallowed_domains = [\"*\"]\n[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"{url}\"]\n"
        )
    };
    let result = |text: String| load(&Sources::none().with_text("config.toml", text));
    assert!(result(text("http://api.example.com", false)).is_err());
    assert!(result(text("http://api.example.com", true)).is_ok());
    let plain = |loaded: &Loaded| {
        let mut warnings = loaded.warnings.iter();
        warnings.any(|warning| warning.to_string().contains("plain HTTP"))
    };
    let loopback = result(text("http://127.0.0.1:8080", false)).expect("loopback");
    assert!(plain(&loopback));
    let loopback = result(text("http://127.0.0.1:8080", true)).expect("loopback");
    assert!(!plain(&loopback));
}

/// All messages about each text, in order.
fn messages_about(texts: &[&str]) -> String {
    let mut messages = String::new();
    for text in texts {
        let text = format!(
            "[network]\ncredential_broker = true\nallowed_domains = [\"a.example\"]\n{text}"
        );
        let sources = Sources::none().with_text("config.toml", text);
        match load(&sources) {
            Err(errors) => messages.push_str(&errors.to_string()),
            Ok(loaded) => {
                let lines: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
                messages.push_str(&lines.join("\n"));
            }
        }
        messages.push_str("\n----\n");
    }
    messages
}

#[test]
fn b5_messages_about_providers() {
    let messages = messages_about(&[
        "credentials = 5\n",
        "[network.credentials]\nmine = \"T\"\n",
        "[network.credentials.mine]\n",
        "[network.credentials.\"my key\"]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\n",
        "[network.credentials.mine]\nenvs = \"T\"\nurl_prefix = [\"a.example\"]\n",
        "[network.credentials.mine]\nenv = []\nurl_prefixes = []\npatterns = []\nmethods = []\n",
        "[network.credentials.mine]\nenv = [\"PATH\", \"LD_LIBRARY_PATH\", \"HTTPS_PROXY\", \"SSL_CERT_FILE\", \"CODEX_NETWORK_PROXY_ACTIVE\", \"A\", \"A\", 5]\nurl_prefixes = [\"a.example\"]\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"*.com\", \"ftp://a.example\", \"a.example/../b\", \"https://a.example?x\", 5]\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\npatterns = [\"(\", \"tok_[0-9]{10}\", \"a b\", \"[a-z]{40}$x\"]\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nauth = \"digest\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nauth = \"header\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nheader = \"x-key\"\nprefix = \"k \"\nusername = \"u\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nauth = \"header\"\nheader = \"Host\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nauth = \"header\"\nheader = \"x-key\"\nprefix = \"\\n\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nauth = \"basic\"\nusername = \"a:b\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nmethods = [\"TRACE\", \"CONNECT\", \"a b\"]\nrequire = \"yes\"\n",
        "[network.credentials.mine]\nuse = \"antropic\"\n",
        "[network.credentials.mine]\nuse = \"pip\"\n",
        // Two for one variable in one layer, and one with a profile's.
        "[network.credentials.one]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\n[network.credentials.two]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\n",
        "[network.credentials.one]\nuse = \"slack\"\n[network.credentials.two]\nenv = \"SLACK_TOKEN\"\nurl_prefixes = [\"a.example\"]\n",
        // Places that the policy refuses.
        "credential_broker = true\ndenied_domains = [\"evil.a.example\"]\n[network.credentials.one]\nenv = \"T\"\nurl_prefixes = [\"a.example\", \"b.example\", \"evil.a.example\", \"192.168.0.1\", \"*.c.example\"]\n",
        "credential_broker = true\nmitm = false\n",
        "[network.credentials.one]\nenv = \"T\"\nurl_prefixes = [\"http://b.example\"]\n",
    ]);
    insta::assert_snapshot!(messages);
}

#[test]
fn b5_messages_about_sources() {
    let texts = [
        "source = \"keyring\"",
        "source = {}",
        "source = { file = \"/a\", command = [\"/b\"] }",
        "source = { file = \"relative\" }",
        "source = { command = [] }",
        "source = { command = [\"gh\", \"auth\", \"token\"] }",
        "source = { command = \"/usr/bin/gh\" }",
        "source = { command = [\"/usr/bin/gh\"], timeout = \"0s\" }",
        "source = { command = [\"/usr/bin/gh\"], timeout = \"1m\" }",
        "source = { command = [\"/usr/bin/gh\"], ttl = \"1s\" }",
        "source = { file = \"/a\", ttl = \"1h\" }",
        "source = { file = \"/a\" }\nurl_prefix_from_env = \"MINE_URL\"",
        "source = { systemd_credential = \"../key\" }",
        "source = { systemd_credentials = \"key\" }",
    ];
    let texts = texts.map(|source| {
        format!(
            "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\n{source}\n"
        )
    });
    let from_a_tool = "[network.credentials.mine]\nuse = \"npm\"\nsource = { file = \"/a\" }\n";
    let texts: Vec<&str> = texts
        .iter()
        .map(String::as_str)
        .chain([from_a_tool])
        .collect();
    insta::assert_snapshot!(messages_about(&texts));
}

#[test]
fn b4_no_message_repeats_a_credential() {
    for text in [
        "[network.credentials.mine]\nenv = \"hunter2-hunter2\"\nurl_prefixes = [\"a.example\"]\n",
        "[network.credentials.mine]\nenv = \"T\"\nvalue = \"hunter2\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nsource = \"hunter2\"\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\nsource = { value = \"hunter2\" }\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"https://u:hunter2@a.example\"]\n",
        "[network.credentials.mine]\nenv = \"T\"\nurl_prefix_from_env = \"https://hunter2\"\n",
    ] {
        let messages = messages_about(&[text]);
        assert!(messages.contains("error"), "{text}: {messages}");
        assert!(!messages.contains("hunter2"), "{messages}");
    }
}

#[test]
fn b5_without_the_broker_providers_are_checked_and_have_no_effect() {
    let text = "[network]\nallowed_domains = [\"a.example\"]\n[network.credentials.mine]\nenv = \"T\"\nurl_prefixes = [\"a.example\"]\n";
    let loaded = loaded(&[text]);
    assert!(loaded.settings.credential_providers.is_empty());
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(
        warning.to_string().contains("the broker is off"),
        "{warning}"
    );
    let wrong = text.replace("env = \"T\"", "env = \"T\"\nauth = 5");
    assert!(load(&Sources::none().with_text("config.toml", wrong)).is_err());
}
