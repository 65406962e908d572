//! The README is true: every command in it is run and prints what it shows; every setting, pattern
//! and path that it names exists.
//!
//! In a `console` block a line that begins with `$ ` is a command, and the lines after it are its
//! output. `...` inside a line stands for any text, and alone on a line for any lines. Ports are
//! those of a proxy that is started here, and `example.com` leads to an origin on loopback. A
//! command that this file cannot run fails the test.

mod console;
mod text;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use e2e::daemon::{Config, Daemon};
use e2e::program::{Program, Run};
use e2e::shipped;

use console::Console;

/// `check` on this text as `policy.toml`.
fn check(text: &str) -> Run {
    let program = Program::new(shipped::proxy());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program.home(), open).expect("the directory is ours");
    std::fs::write(program.home().join("policy.toml"), text).expect("a new directory");
    // The secret that a hook of the README injects.
    program
        .env("GITHUB_TOKEN", "not-a-token")
        .args(["check", "policy.toml"])
        .run()
}

#[test]
fn every_command_in_the_readme_says_what_it_shows() {
    let mut console = Console::new(&text::blocks("toml")[0]);
    let mut commands = 0;
    for block in text::blocks("console") {
        for (command, shown) in text::commands(&block) {
            console.run(&command, &shown);
            commands += 1;
        }
    }
    assert!(commands >= 10, "the README's commands were not found");
}

#[test]
fn every_command_on_the_operators_page_says_what_it_shows() {
    let mut console = Console::new(&text::blocks("toml")[0]);
    let mut commands = 0;
    for block in text::blocks_of("packaging/OPERATING.md", "console") {
        for (command, shown) in text::commands(&block) {
            console.run(&command, &shown);
            commands += 1;
        }
    }
    assert!(commands >= 5, "the page's commands were not found");
}

#[test]
fn every_toml_block_of_the_readme_passes_check() {
    for block in text::blocks("toml") {
        check(&block).succeeded();
        // Commented-out keys must be usable too.
        let used: Vec<&str> = block
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .collect();
        check(&used.join("\n")).succeeded();
    }
}

#[test]
fn every_key_in_the_settings_of_the_readme_has_the_default_that_it_names() {
    let rows = text::rows("| key |");
    assert!(rows.len() >= 9, "the table of settings was not found");
    for row in rows {
        let (keys, defaults) = (text::code(&row[0]), text::code(&row[1]));
        for (index, key) in keys.iter().enumerate() {
            let default = defaults.get(index).unwrap_or(&defaults[0]);
            check(&format!("[network]\n{key} = {default}\n")).succeeded();
        }
    }
}

#[test]
fn the_defaults_in_the_readme_are_those_of_the_proxy() {
    let told = |text: &str| {
        let program = Program::new(shipped::proxy());
        let run = program.args(["check"]).run();
        let own = check(text);
        (
            run.succeeded().stdout.clone(),
            own.succeeded().stdout.clone(),
        )
    };
    let mut text = String::from("[network]\n");
    for row in text::rows("| key |") {
        let (keys, defaults) = (text::code(&row[0]), text::code(&row[1]));
        for (index, key) in keys.iter().enumerate() {
            let default = defaults.get(index).unwrap_or(&defaults[0]);
            writeln!(text, "{key} = {default}").expect("a string takes text");
        }
    }
    for block in text::blocks("toml")
        .iter()
        .filter(|block| block.starts_with("[daemon]"))
    {
        text.push_str(block);
    }
    let (without, with) = told(&text);
    let summary = |output: &str| output.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert_eq!(summary(&without), summary(&with));
    // The proxy shows what `check` does not.
    let (bare, written) = (
        Config::new(),
        Config::new().append(&format!("\n{}", limits_table())),
    );
    let config = |config: &Config| {
        let daemon = Daemon::start(config);
        daemon.admin("GET", "/config", None).json()["daemon"]["limits"].clone()
    };
    assert_eq!(config(&bare), config(&written));
}

/// The `[daemon.limits]` table of the README.
fn limits_table() -> String {
    let blocks = text::blocks("toml");
    let block = blocks
        .iter()
        .find(|block| block.contains("[daemon.limits]"));
    let block = block.expect("the README shows the limits");
    block[block.find("[daemon.limits]").expect("just found")..].to_owned()
}

#[test]
fn every_pattern_in_the_readme_can_be_written() {
    let rows = text::rows("| pattern |");
    assert!(rows.len() >= 6, "the table of patterns was not found");
    for pattern in rows.iter().flat_map(|row| text::code(&row[0])) {
        check(&format!("[network]\nallowed_domains = [\"{pattern}\"]\n")).succeeded();
    }
}

#[test]
fn every_request_to_the_admin_api_in_the_readme_is_answered() {
    let rows = text::rows("| request |");
    assert!(rows.len() >= 6, "the table of requests was not found");
    let daemon = Daemon::start(&Config::example());
    for row in rows {
        let request = text::code(&row[0]).remove(0);
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let shown = text::code(&row[1]);
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
fn every_proxyctl_command_in_the_readme_exists() {
    let rows = text::rows("| command |");
    assert!(rows.len() >= 7, "the table of commands was not found");
    for row in rows {
        let command = text::code(&row[0]).remove(0);
        let name = command.split(' ').nth(1).expect("a command of proxyctl");
        let run = Program::new(shipped::proxyctl())
            .args([name, "--help"])
            .run();
        for option in row.iter().flat_map(|cell| text::code(cell)) {
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
fn the_variables_in_the_readme_point_curl_at_the_proxy() {
    let mut console = Console::new(&text::blocks("toml")[0]);
    console.run("codex-network-proxy --config policy.toml", &[]);
    let blocks = text::blocks("sh");
    let variables = blocks.iter().find(|block| block.contains("HTTP_PROXY="));
    let script =
        variables.expect("a block of variables").clone() + "curl -s http://blocked.example/\n";
    let said = console.shell(&script);
    assert!(said.contains("\"reason\":\"not_allowed\""), "{said}");
}
