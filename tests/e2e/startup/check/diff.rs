//! `check --diff OLD NEW`: what a new configuration changes.

use serde_json::{Value, json};

use super::{run, with_files};

const OLD: &str = "[network]\nallowed_domains = [\"a.example\", \"b.example\"]\n\
                   denied_domains = [\"c.example\", \"d.example\"]\n";
const NEW: &str = "[network]\nmode = \"limited\"\nproxy_url = \"http://127.0.0.1:4000\"\n\
                   enable_socks5 = false\nallowed_domains = [\"B.example\", \"e.example\", \"f.example\"]\n\
                   denied_domains = [\"d.example\"]\n[daemon]\nsandbox = \"require\"\n";
const FILES: [(&str, &str); 2] = [("old.toml", OLD), ("new.toml", NEW)];
const DIFF: [&str; 4] = ["check", "--diff", "old.toml", "new.toml"];

#[test]
fn l13_a_diff_has_rules_mode_and_listeners() {
    let run = with_files(&FILES).args(DIFF).run();
    assert_eq!(
        run.succeeded().stdout,
        "+ allow e.example\n+ allow f.example\n- allow a.example\n- deny c.example\n\
         daemon.sandbox: try -> require\nenable_socks5: true -> false\nmode: full -> limited\n\
         proxy_url: http://127.0.0.1:3128 -> http://127.0.0.1:4000\n\
         socks_url: socks5h://127.0.0.1:8081 -> none\nok: forbids 1, allows 3\n"
    );
    let same = [("old.toml", OLD), ("new.toml", &format!("# moved\n{OLD}"))];
    let same = with_files(&same).args(DIFF).run();
    assert_eq!(same.succeeded().stdout, "ok: changes nothing\n");
}

#[test]
fn l13_a_diff_in_json_names_each_change() {
    let run = with_files(&FILES).args(DIFF).arg("--json").run();
    let reported: Value = serde_json::from_str(&run.succeeded().stdout).expect("JSON");
    assert_eq!(reported["ok"], json!(true));
    assert_eq!(
        (&reported["forbids"], &reported["allows"]),
        (&json!(1), &json!(3))
    );
    let changes = reported["changes"].as_array().expect("a list");
    for change in [
        json!({"key": "allowed_domains", "added": ["e.example", "f.example"], "removed": ["a.example"]}),
        json!({"key": "denied_domains", "added": [], "removed": ["c.example"]}),
        json!({"key": "mode", "old": "full", "new": "limited"}),
    ] {
        assert!(changes.contains(&change), "{change} in {changes:?}");
    }
}

#[test]
fn l13_a_diff_of_requirements_has_their_bounds() {
    let files = [
        ("old/requirements.toml", "[experimental_network]\n"),
        (
            "new/requirements.toml",
            "[experimental_network]\nmode = \"limited\"\ndenied_domains = [\"a.example\"]\n",
        ),
    ];
    let words = [
        "check",
        "--diff",
        "old/requirements.toml",
        "new/requirements.toml",
    ];
    let run = with_files(&files).args(words).run();
    assert_eq!(
        run.succeeded().stdout,
        "+ deny a.example\nmode: full -> limited\npinned.mode: none -> limited\n\
         ok: forbids 1, allows 0\n"
    );
}

#[test]
fn l13_a_diff_fails_for_an_error_on_either_side_and_for_warnings_of_the_new_one_alone() {
    let clamped = "[network]\nproxy_url = \"http://0.0.0.0:3128\"\n";
    let check = |old: &str, new: &str, options: &[&str]| {
        let program = with_files(&[("old.toml", old), ("new.toml", new)]);
        program.args(DIFF).args(options).run()
    };
    for (old, new, place) in [
        (OLD, "[network]\nmode = 1\n", "error: new.toml:2:8: "),
        ("[network]\nmode = 1\n", OLD, "error: old.toml:2:8: "),
    ] {
        let run = check(old, new, &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(run.stdout, "");
        run.says(place);
    }
    check(clamped, OLD, &["--strict"]).succeeded();
    let run = check(OLD, clamped, &["--strict"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    run.says("warning: new.toml:2:13: ");
}

#[test]
fn l13_a_diff_needs_two_configurations() {
    for words in [
        &["check", "--diff", "old.toml"][..],
        &["check", "--diff", "-", "-"],
        &["check", "--diff", "a", "b", "--diff", "c", "d"],
        &["check", "--diff", "old.toml", "new.toml", "more.toml"],
        &["check", "--diff", "old.toml", "new.toml", "--root", "tree"],
        &[
            "--config", "a.toml", "check", "--diff", "old.toml", "new.toml",
        ],
    ] {
        let run = run(words);
        assert_eq!(run.code, Some(2), "{run:?}");
    }
    let program = with_files(&FILES).stdin(NEW.as_bytes());
    let run = program.args(["check", "--diff", "old.toml", "-"]).run();
    run.succeeded().says("ok: forbids 1, allows 3\n");
}
