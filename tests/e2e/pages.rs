//! The pages are true: every command in the README, the manual and the other pages is run and prints what
//! the page shows; every key, default, pattern and request that a page names exists.
//!
//! In a `console` block a line that begins with `$ ` is a command, and the lines after it are its
//! output. `...` inside a line stands for any text, and alone on a line for any lines. Ports are
//! those of a proxy that is started here, and `example.com` leads to an origin on loopback. A
//! command that this file cannot run fails the test.

mod console;
mod text;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use console::Console;
use e2e::daemon::{Config, Daemon};
use e2e::machine::{Need, has};
use e2e::program::{Program, Run};
use e2e::shipped;

const README: &str = "README.md";
const GUIDE: &str = "packaging/man/codex-network-proxy.7";
const SETTINGS: &str = "packaging/man/codex-network-proxy.toml.5";

/// The sections of the page of the configuration whose keys have defaults, and their tables.
const TABLES: [(&str, &str); 6] = [
    ("POLICY", "network"),
    ("[daemon]", "daemon"),
    ("[daemon.control]", "daemon.control"),
    ("[daemon.admin]", "daemon.admin"),
    ("[daemon.resolver]", "daemon.resolver"),
    ("[daemon.limits]", "daemon.limits"),
];

/// `check` on this text as `policy.toml`.
fn check(text: &str) -> Run {
    let program = Program::new(shipped::proxy());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program.home(), open).expect("the directory is ours");
    std::fs::write(program.home().join("policy.toml"), text).expect("a new directory");
    // The secret that a hook of the guide injects.
    program
        .env("GITHUB_TOKEN", "not-a-token")
        .args(["check", "policy.toml"])
        .run()
}

/// The policy of the README's quick start.
fn policy() -> String {
    text::blocks(README, "toml").swap_remove(0)
}

/// The configuration of the README's section about keys.
fn keys() -> String {
    let mut blocks = text::blocks(README, "toml").into_iter();
    let keys = blocks.find(|block| block.contains("credential_broker"));
    keys.expect("the README has a credential")
}

/// Runs every command of a page, like a reader.
fn run_commands(page: &str) -> usize {
    let mut console = Console::new(page, &policy(), &keys());
    let mut count = 0;
    for block in text::blocks(page, "console") {
        for (command, shown) in text::commands(&block) {
            console.run(&command, &shown);
            count += 1;
        }
    }
    count
}

#[test]
fn every_command_in_the_readme_prints_what_it_shows() {
    if !has(Need::UserNamespaces) {
        return;
    }
    assert!(run_commands(README) >= 8, "the commands were not found");
}

#[test]
fn every_command_in_the_guide_prints_what_it_shows() {
    assert!(run_commands(GUIDE) >= 10, "the commands were not found");
}

#[test]
fn every_command_on_the_other_pages_prints_what_it_shows() {
    let pages = text::pages();
    assert!(pages.len() >= 10, "{pages:?}");
    for known in [README, GUIDE, SETTINGS, "packaging/OPERATING.md"] {
        assert!(pages.iter().any(|page| page == known), "{known}: {pages:?}");
    }
    let commands: usize = pages
        .iter()
        .filter(|page| ![README, GUIDE].contains(&page.as_str()))
        .map(|page| run_commands(page))
        .sum();
    assert!(commands >= 5, "the commands were not found");
}

#[test]
fn every_block_of_a_page_names_its_language() {
    for page in text::pages() {
        for (language, block) in text::all_blocks(&page) {
            assert!(
                !language.is_empty(),
                "{page}: a block has no language:\n{block}"
            );
        }
    }
}

#[test]
fn the_guide_and_the_readme_start_from_the_same_policy() {
    assert_eq!(text::blocks(GUIDE, "toml")[0], policy());
}

#[test]
fn every_toml_block_passes_check() {
    let mut count = 0;
    for page in text::pages() {
        for block in text::blocks(&page, "toml") {
            check(&block).succeeded();
            count += 1;
        }
    }
    assert!(count >= 5, "{count} blocks were found");
}

/// The keys in a section of the page of the configuration, each with the default that can be written.
fn defaults(section: &str) -> Vec<(String, String)> {
    text::terms(SETTINGS, section)
        .into_iter()
        .filter_map(|(term, _)| {
            let key = text::code(&term).into_iter().next()?;
            let (_, default) = term.rsplit_once(" (")?;
            let default = default.trim_end_matches(')');
            // Others say what the default is, as in `the system's`.
            let can_be_written = format!("default = {default}")
                .parse::<toml::Table>()
                .is_ok();
            can_be_written.then(|| (key, default.to_owned()))
        })
        .collect()
}

#[test]
fn the_defaults_in_the_manual_are_those_of_the_proxy() {
    let mut all = String::new();
    let mut count = 0;
    for (section, table) in TABLES {
        writeln!(all, "[{table}]").expect("a string takes text");
        for (key, default) in defaults(section) {
            check(&format!("[{table}]\n{key} = {default}\n")).succeeded();
            writeln!(all, "{key} = {default}").expect("a string takes text");
            count += 1;
        }
    }
    assert!(count >= 25, "{count} defaults were found");
    // `check` shows some of them.
    let bare = Program::new(shipped::proxy()).args(["check"]).run();
    let written = check(&all);
    let summary = |run: &Run| {
        let (_, rest) = run.succeeded().stdout.split_once('\n').expect("two lines");
        rest.to_owned()
    };
    assert_eq!(summary(&bare), summary(&written));
}

/// The proxy shows what `check` does not.
#[test]
fn the_default_limits_in_the_manual_are_those_of_the_proxy() {
    let mut limits = String::from("\n[daemon.limits]\n");
    let defaults = defaults("[daemon.limits]");
    assert!(defaults.len() >= 7, "{defaults:?}");
    for (key, default) in defaults {
        writeln!(limits, "{key} = {default}").expect("a string takes text");
    }
    let shown = |config: &Config| {
        let daemon = Daemon::start(config);
        daemon.admin("GET", "/config", None).json()["daemon"]["limits"].clone()
    };
    assert_eq!(shown(&Config::new()), shown(&Config::new().append(&limits)));
}

#[test]
fn every_pattern_in_the_manual_can_be_written() {
    let patterns = text::terms(SETTINGS, "PATTERNS");
    assert!(patterns.len() >= 6, "{patterns:?}");
    for pattern in patterns.iter().flat_map(|(term, _)| text::code(term)) {
        check(&format!("[network]\nallowed_domains = [\"{pattern}\"]\n")).succeeded();
    }
}

#[test]
fn every_request_to_the_admin_api_in_the_guide_is_answered() {
    let requests = text::terms(GUIDE, "ADMIN API");
    assert!(requests.len() >= 6, "{requests:?}");
    let daemon = Daemon::start(&Config::example());
    for (term, meaning) in requests {
        let request = text::code(&term).remove(0);
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let shown = text::code(&meaning);
        let body = shown
            .first()
            .filter(|text| text.starts_with('{') && method == "POST");
        let answer = daemon.admin(method, path, body.map(String::as_str));
        assert_eq!(answer.status, 200, "{request}: {}", answer.text());
        for query in shown.iter().filter(|text| text.starts_with('?')) {
            let query = query.replace("=N", "=1");
            let answer = daemon.admin(method, &format!("{path}{query}"), None);
            assert_eq!(answer.status, 200, "{request}{query}: {}", answer.text());
        }
    }
}

#[test]
fn every_proxyctl_command_in_the_guide_exists() {
    let commands = [text::terms(GUIDE, "PROXYCTL"), text::terms(GUIDE, "THE CA")].concat();
    assert!(commands.len() >= 13, "{commands:?}");
    for (term, meaning) in commands {
        let command = text::code(&term).remove(0);
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        let words = words
            .iter()
            .take_while(|word| !word.starts_with(['[', 'U']));
        let words: Vec<&str> = words.copied().collect();
        let run = Program::new(shipped::proxyctl())
            .args(words.iter().copied().chain(["--help"]))
            .run();
        for option in text::code(&meaning) {
            if let Some(option) = option
                .split(' ')
                .next()
                .filter(|word| word.starts_with("--"))
            {
                run.succeeded().says(option);
            }
        }
        run.succeeded();
    }
}

#[test]
fn the_variables_in_the_pages_point_curl_at_the_proxy() {
    for page in [README, GUIDE] {
        let mut console = Console::new(page, &policy(), &keys());
        console.run("codex-network-proxy --config policy.toml", &[]);
        let blocks = text::blocks(page, "sh");
        let variables = blocks.iter().find(|block| block.contains("HTTP_PROXY="));
        let script =
            variables.expect("a block of variables").clone() + "curl -s http://blocked.example/\n";
        let output = console.shell(&script);
        assert!(
            output.contains("\"reason\":\"not_allowed\""),
            "{page}: {output}"
        );
    }
}
