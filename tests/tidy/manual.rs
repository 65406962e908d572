//! The man pages and completions are complete: every command, option, exit code and configuration
//! key, and they render without a warning.

use std::path::Path;

use e2e::program::{Program, Run};
use tempfile::TempDir;

use crate::sources::root;

const PROXY: &str = env!("CARGO_BIN_EXE_codex-network-proxy-under-test");
const PROXYCTL: &str = env!("CARGO_BIN_EXE_proxyctl-under-test");
const SETTINGS: &str = "packaging/man/codex-network-proxy.toml.5";

fn run(program: &str, arguments: &[&str]) -> Run {
    Program::new(program).args(arguments).run()
}

/// A directory with the pages of both programs in `man`, and their completions in `completions`.
fn generated() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    manual::write(directory.path()).expect("the pages and completions");
    directory
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A page without roff's escapes: roff writes a hyphen that is not a line end with a backslash.
fn page(directory: &TempDir, name: &str) -> String {
    read(&directory.path().join("man").join(name)).replace("\\-", "-")
}

/// The names of the commands in a help text.
fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // Lines with a deeper indentation continue a description.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The options in a help text, long and short.
fn options(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Options:")
        .skip(1)
        // A line that begins with `- ` describes a value.
        .filter(|line| line.trim_start().starts_with('-') && !line.trim_start().starts_with("- "))
        .flat_map(|line| {
            line.split([' ', ','])
                .take_while(|word| !word.starts_with('<'))
        })
        .filter(|word| word.starts_with('-'))
        // `--option[=<VALUE>]` is the option with a value that may be left out.
        .map(|word| word.split('[').next().unwrap_or(word).to_owned())
        .collect()
}

/// The exit codes that a help text lists.
fn codes(help: &str) -> Vec<String> {
    let (_, listed) = help.split_once("Exit codes:").expect("the exit codes");
    let words = listed.split_whitespace();
    let codes: Vec<String> = words
        .filter(|word| word.parse::<u8>().is_ok())
        .map(str::to_owned)
        .collect();
    assert!(codes.len() >= 4, "{listed}");
    codes
}

fn assert_has_options(page: &str, help: &str, what: &str) {
    let options = options(help);
    assert!(options.contains(&"--help".to_owned()), "{help}");
    for option in options {
        assert!(
            page.contains(&format!("\\fB{option}\\fR")),
            "{what}: {option} is missing"
        );
    }
}

fn assert_has_codes(page: &str, help: &str) {
    let (_, status) = page.split_once(".SH EXIT STATUS").expect("the exit codes");
    let status = status.split(".SH").next().unwrap_or_default();
    for code in codes(help) {
        assert!(
            status.contains(&format!("\n.B {code}\n")),
            "{code} is missing"
        );
    }
}

#[test]
fn k1_the_pages_of_proxyctl_have_every_command_option_and_exit_code() {
    let directory = generated();
    let help = run(PROXYCTL, &["--help"]).stdout;
    let main = page(&directory, "proxyctl.1");
    assert_has_options(&main, &help, "proxyctl");
    assert_has_codes(&main, &help);
    let mut seen = 0;
    let mut open = vec![Vec::new()];
    while let Some(words) = open.pop() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let help = run(PROXYCTL, &[&words[..], &["--help"]].concat()).stdout;
        let name = [&["proxyctl"], &words[..]].concat().join("-");
        assert_has_options(&page(&directory, &format!("{name}.1")), &help, &name);
        for command in commands(&help) {
            let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            words.push(command);
            open.push(words);
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen} commands");
}

#[test]
fn l5_the_page_of_the_proxy_has_every_command_option_and_exit_code() {
    let directory = generated();
    let help = run(PROXY, &["--help"]).stdout;
    let page = page(&directory, "codex-network-proxy.8");
    assert_has_options(&page, &help, "codex-network-proxy");
    assert_has_codes(&page, &help);
    let commands = commands(&help);
    assert!(commands.contains(&"check".to_owned()), "{help}");
    for command in commands {
        assert!(
            page.contains(&format!("\\fB{command}\\fR")),
            "{command} is missing"
        );
        let help = run(PROXY, &[&command, "--help"]).stdout;
        assert_has_options(&page, &help, &command);
    }
    for signal in ["SIGHUP", "SIGTERM", "SIGINT"] {
        assert!(page.contains(signal), "{signal} is missing");
    }
}

/// These are the exit codes of the programs, whatever the help texts say.
#[test]
fn the_exit_codes_are_those_of_the_sources() {
    let program = read(&root().join("daemon/src/program.rs"));
    assert!(program.contains("const UNUSABLE_CONFIGURATION: u8 = 78;"));
    let ctl = read(&root().join("ctl/src/failure.rs"));
    let listed = codes(&run(PROXYCTL, &["--help"]).stdout);
    for code in ["(message, 1)", "(message, 3)", "(message, 4)"] {
        assert!(ctl.contains(code), "{code}");
    }
    assert!(ctl.contains("(message, EndedSession::NO_SESSION)"));
    assert!(ctl.contains("const NO_SESSION: u8 = 125;"));
    let used = ctl.matches("(message, ").count();
    assert_eq!(used, 6, "five codes and where they are used: {listed:?}");
    assert_eq!(
        codes(&run(PROXY, &["--help"]).stdout),
        ["0", "1", "2", "78"]
    );
    let of_run = ["128", "125", "126", "127"];
    assert_eq!(listed, [&["0", "1", "2", "3", "4"][..], &of_run].concat());
}

#[test]
fn c3_c5_c6_the_page_of_the_configuration_has_every_key() {
    let page = read(&root().join(SETTINGS));
    let part = |from: &str, to: &str| {
        let (_, rest) = page.split_once(from).unwrap_or_else(|| panic!("no {from}"));
        rest.split(to).next().unwrap_or_default().to_owned()
    };
    let other = part("\n.SH OTHER FORMS", "\n.SH ");
    let keys = codex_network_config::keys();
    assert!(keys.len() > 100, "{} keys", keys.len());
    for (table, key) in keys {
        let place = match table.as_str() {
            "" => other.clone(),
            "network" => part("\n.SH POLICY", "\n.SS "),
            "experimental_network" => part("\n.SH REQUIREMENTS", "\n.SS "),
            table if table.starts_with("experimental_network.") => {
                let section = part(&format!("\n.SS [{table}]\n"), "\n.S");
                section.split("\n.SH").next().unwrap_or_default().to_owned()
            }
            "daemon" => part("\n.SS [daemon]\n", "\n.SS "),
            "mitm.actions.NAME.inject_request_headers" => {
                part("\n\\fBinject_request_headers\\fR", "\n.RE")
            }
            table if table.starts_with("daemon.") => {
                let section = part(&format!("\n.SS [{table}]\n"), "\n.S");
                section.split("\n.SH").next().unwrap_or_default().to_owned()
            }
            table if table.starts_with("mitm.") || table.starts_with("credentials.") => {
                part(&format!("\n.SS [network.{table}]\n"), "\n.S")
            }
            table if table.ends_with("network.mitm") || table == "network_proxy.mitm" => {
                part("\n.SS [network.mitm]\n", "\n.SS ")
            }
            // The older and newer generations have the keys of [network], and some of their own.
            "network_proxy"
            | "network_proxy.policy"
            | "permissions.NAME.network"
            | "features.network_proxy" => {
                format!("{}{other}", part("\n.SH POLICY", "\n.SS "))
            }
            table => panic!("the page has no place for [{table}]"),
        };
        assert!(
            place.contains(&format!("\\fB{key}\\fR")),
            "`{key}` in [{table}] is missing"
        );
    }
}

#[test]
fn the_pages_render_without_a_complaint() {
    let directory = generated();
    let entries = std::fs::read_dir(directory.path().join("man")).expect("the pages");
    let pages: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    assert!(pages.len() >= 14, "{pages:?}");
    for page in pages {
        let text = read(&page);
        for section in [
            ".SH NAME",
            ".SH SYNOPSIS",
            ".SH DESCRIPTION",
            ".SH SEE ALSO",
        ] {
            assert!(
                text.contains(section),
                "{} has no {section}",
                page.display()
            );
        }
        // Every line is an existing roff request, or text, which a typing error would become.
        for line in text.lines().filter(|line| line.starts_with('.')) {
            let request = line.split([' ', '\t']).next().unwrap_or_default();
            let known = [
                ".TH", ".SH", ".SS", ".TP", ".TQ", ".PP", ".B", ".I", ".BR", ".IR", ".RI", ".nf",
                ".EX", ".EE", ".fi", ".RS", ".RE", ".br", ".sp", ".ie", ".el", ".IP", ".\\\"",
            ];
            assert!(known.contains(&request), "{}: {line}", page.display());
        }
    }
}

#[test]
fn k5_the_pages_of_both_programs_list_the_reasons() {
    let directory = generated();
    for name in ["codex-network-proxy.8", "proxyctl.1"] {
        let page = page(&directory, name);
        assert!(page.contains("\n.SH REASONS\n"), "{name}");
        assert!(page.contains("\n.B mitm_hook_denied\n"), "{name}");
    }
}

#[test]
fn k1_completions_offer_every_public_command_and_no_other() {
    let directory = generated();
    for (program, offered, hidden) in [
        ("codex-network-proxy", "check", "load"),
        ("proxyctl", "explain", "completions"),
    ] {
        for name in [
            format!("{program}.bash"),
            format!("_{program}"),
            format!("{program}.fish"),
        ] {
            let script = read(&directory.path().join("completions").join(&name));
            let has = |word: &str| {
                let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
                let mut words = script.split(|c| !is_letter(c));
                words.any(|one| one == word)
            };
            assert!(has(offered), "{name} lacks {offered}");
            assert!(!has(hidden), "{name} offers {hidden}");
        }
    }
}
