//! `check`: good and bad configurations, exit codes, and the positions in messages.

mod against;
mod diff;
mod report;
mod requirements;
mod tree;

use std::path::Path;

use e2e::program::Program;

use super::{assert_nothing_in_etc, check, run};

/// The binary in a home with these files.
fn with_files(files: &[(&str, &str)]) -> Program {
    let program = Program::new(e2e::shipped::proxy());
    for (name, text) in files {
        let path = program.home().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a new file");
    }
    program
}

const DEFAULTS: &str = "http 127.0.0.1:3128, socks5 127.0.0.1:8081, admin 127.0.0.1:8080";

#[test]
fn l1_l2_l3_the_default_addresses_are_those_of_the_manual() {
    let run = check("");
    assert_eq!(
        run.succeeded().stdout,
        format!(
            "read policy.toml\nok: enabled, full mode, 0 allow rules, 0 deny rules\nlistens on {DEFAULTS}\n"
        )
    );
    let manual = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../packaging/man/codex-network-proxy.toml.5"
    );
    let manual = std::fs::read_to_string(manual).expect("the page of the configuration");
    for (key, default) in [
        ("proxy_url", "http://127.0.0.1:3128"),
        ("socks_url", "socks5h://127.0.0.1:8081"),
        ("admin_url", "http://127.0.0.1:8080"),
    ] {
        let row = manual
            .lines()
            .find(|line| line.contains(&format!("\\fB{key}\\fR")));
        let row = row.expect("the key is on the page");
        assert!(row.contains(&format!("\\(dq{default}\\(dq")), "{row}");
    }
}

#[test]
fn l5_check_without_a_file_checks_what_a_start_would_read() {
    assert_nothing_in_etc();
    let run = run(&["check"]);
    assert!(
        run.succeeded()
            .stdout
            .starts_with("no configuration files: built-in defaults\n"),
        "{run:?}"
    );
    let program = Program::new(e2e::shipped::proxy());
    let directory = program.home().join(".codex");
    std::fs::create_dir(&directory).expect("a new directory");
    std::fs::write(
        directory.join("config.toml"),
        "[network]\nmode = \"limited\"\n",
    )
    .expect("a new file");
    program.arg("check").run().succeeded().says("limited mode");
}

#[test]
fn l5_check_takes_a_file_or_config_and_not_both() {
    for arguments in [
        &["check", "a.toml", "--config", "b.toml"][..],
        &["--config", "b.toml", "check", "a.toml"],
    ] {
        let run = run(arguments);
        assert_eq!(run.code, Some(2), "{run:?}");
        run.says("both name the file to check");
    }
}

#[test]
fn l5_check_of_a_missing_file_does_not_mention_config() {
    let run = run(&["check", "missing.toml"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    run.says("missing.toml: cannot be read: No such file")
        .says("is the path right?");
    assert!(!run.stderr.contains("--config"), "{run:?}");
}

#[test]
fn c2_the_older_form_is_noted_of_files_and_not_of_the_command_line() {
    let run = run(&["check", "-c", "network.mode=limited"]);
    run.succeeded().says("limited mode");
    assert_eq!(run.stderr, "");
    check("[network]\n").succeeded().says("is an older form");
}

#[test]
fn c5_check_reads_the_hosts_file_and_reports_the_systems_error() {
    let run = check("[daemon.resolver]\nhosts_file = \"/nowhere/hosts\"\n");
    assert_eq!(run.code, Some(1), "{run:?}");
    run.says("hosts_file: cannot read /nowhere/hosts: No such file or directory");
}

#[test]
fn l5_check_counts_rules_and_names_mode_and_state() {
    let run = check(
        "[network]\nenabled = false\nmode = \"limited\"\nenable_socks5 = false\n\
         allowed_domains = [\"a.example\", \"*.b.example\"]\ndenied_domains = [\"c.example\"]\n\
         [daemon.admin]\nenabled = false\n",
    );
    run.succeeded()
        .says("ok: disabled, limited mode, 2 allow rules, 1 deny rule\n")
        .says("listens on http 127.0.0.1:3128\n");
}

#[test]
fn c4_all_problems_are_reported_at_once_with_file_line_and_column() {
    let run = check(
        "[network]\nallowed_domains = [\"ok.example\", \"*.\"]\n  modee = \"full\"\n\
         enabled = \"yes\"\n[daemon.limits]\nidle_timeout = \"10\"\n",
    );
    assert_eq!(run.failed().code, Some(1));
    assert_eq!(run.stdout, "", "problems go to standard error");
    for place in [
        "error: policy.toml:2:34: ",
        "error: policy.toml:3:3: ",
        "error: policy.toml:4:11: ",
        "error: policy.toml:6:16: ",
        "help: did you mean `mode`?",
        "\n  3 |   modee = \"full\"\n    |   ^^^^^\n",
    ] {
        run.says(place);
    }
    assert_eq!(run.stderr.matches("error: ").count(), 4, "{}", run.stderr);
}

#[test]
fn c4_a_syntax_error_is_reported_with_its_position() {
    let run = check("[network]\nmode = \"full\n");
    run.failed().says("error: policy.toml:2:");
    assert_eq!(run.code, Some(1));
}

#[test]
fn c4_foreign_tables_are_ignored_and_unknown_keys_of_ours_are_errors() {
    check("model = \"x\"\n[tui]\ntheme = 1\n[network]\nmode = \"full\"\n").succeeded();
    check("[daemon.limit]\nmax_connections = 1\n")
        .failed()
        .says("did you mean `limits`?");
}

#[test]
fn c2_all_four_dialects_are_read_and_the_newest_form_is_suggested() {
    let newest = "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true\n\
                  [permissions.p.network.domains]\n\"a.example\" = \"allow\"\n\"b.example\" = \"deny\"\n";
    let older = [
        "[network_proxy]\n[network_proxy.policy]\nallowed_domains = [\"a.example\"]\ndenied_domains = [\"b.example\"]\n",
        "[network]\nallowed_domains = [\"a.example\"]\ndenied_domains = [\"b.example\"]\n",
        "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true\n\
         allowed_domains = [\"a.example\"]\ndenied_domains = [\"b.example\"]\n",
    ];
    for text in older.into_iter().chain([newest]) {
        let run = check(text);
        run.succeeded().says("1 allow rule, 1 deny rule");
        let noted = run.stderr.contains("note: policy.toml:");
        assert_eq!(noted, text != newest, "{text}\n{}", run.stderr);
    }
    check(&format!("{newest}[network]\nmode = \"full\"\n")).failed();
}

#[test]
fn c4_a_file_that_cannot_be_read_is_named_with_exit_code_1() {
    let program = Program::new(e2e::shipped::proxy());
    let home = program.home().to_owned();
    let write = |name: &str, bytes: &[u8]| std::fs::write(home.join(name), bytes).expect(name);
    write("latin1.toml", b"# caf\xe9\n");
    write("utf16.toml", b"\xff\xfe[\0");
    write("binary.toml", b"\x7fELF\x02\x01\x00");
    std::fs::create_dir(home.join("directory.toml")).expect("a new directory");
    let large = std::fs::File::create(home.join("large.toml")).expect("a new file");
    large.set_len(65 << 20).expect("a sparse file");
    for (name, why) in [
        ("missing.toml", "No such file or directory"),
        ("directory.toml", "it is a directory"),
        ("latin1.toml", "is not UTF-8: line 1 holds the byte 0xe9"),
        ("utf16.toml", "is not UTF-8: line 1 holds the byte 0xff"),
        ("binary.toml", "binary.toml:1:"),
        ("large.toml", "is larger than 64 MiB"),
    ] {
        let run = Program::new(e2e::shipped::proxy())
            .current_dir(&home)
            .args(["check", name])
            .run();
        assert_eq!(run.failed().code, Some(1), "{name}");
        run.says(&format!("error: {name}")).says(why);
    }
}

#[test]
fn c4_a_file_with_a_false_size_costs_little_memory() {
    let run = check(&"x = [".repeat(200_000));
    assert_eq!(run.failed().code, Some(1));
    assert!(run.stderr.len() < 10_000, "{} bytes", run.stderr.len());
}

#[test]
fn l8_a_bind_that_is_not_loopback_is_clamped_unless_opted_in() {
    let clamped = check(
        "[network]\nproxy_url = \"http://0.0.0.0:3128\"\nsocks_url = \"10.1.2.3:9\"\n\
         admin_url = \"[::]:8080\"\n",
    );
    clamped
        .succeeded()
        .says("listens on http 127.0.0.1:3128, socks5 127.0.0.1:9, admin 127.0.0.1:8080\n");
    for place in ["2:13", "3:13", "4:13"] {
        clamped.says(&format!("warning: policy.toml:{place}: "));
    }
    clamped.says("dangerously_allow_non_loopback_admin = true");
    check(
        "[network]\nproxy_url = \"http://0.0.0.0:3128\"\nadmin_url = \"[::]:8080\"\n\
         dangerously_allow_non_loopback_proxy = true\ndangerously_allow_non_loopback_admin = true\n",
    )
    .succeeded()
    .says("listens on http 0.0.0.0:3128, socks5 127.0.0.1:8081, admin [::]:8080\n");
}

#[test]
fn l11_listen_addresses_are_urls_or_bare() {
    check(
        "[network]\nproxy_url = \"example.com:9999\"\nsocks_url = \"socks5h://[::1]\"\n\
         admin_url = \"https://user:secret@localhost:70/path\"\n",
    )
    .succeeded()
    .says("listens on http 127.0.0.1:9999, socks5 [::1]:8081, admin 127.0.0.1:70\n");
}

#[test]
fn c5_check_checks_the_log_filter() {
    // The proxy does not start with it.
    check("[daemon]\nlog = \"==[\"\n")
        .failed()
        .says("[daemon] log = \"==[\"");
}

#[test]
fn l5_a_closed_output_does_not_change_the_exit_code() {
    let text = format!("{} check policy.toml | true", e2e::shipped::proxy());
    let program = Program::new("sh");
    std::fs::write(program.home().join("policy.toml"), "").expect("a new file");
    let run = program.args(["-c", &text]).run();
    assert!(!run.succeeded().stderr.contains("panicked"), "{run:?}");
    assert!(Path::new(e2e::shipped::proxy()).exists());
}
