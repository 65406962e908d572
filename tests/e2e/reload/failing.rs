//! Reloads that fail: all problems are reported, and nothing has changed.

use e2e::daemon::{Config, Daemon, Signal};
use e2e::origin::{Answer, Origin};

const OLD: &str = "the old settings stay in force";

/// Fails unless [`Config::example`] is in force, in its first generation.
fn is_as_before(daemon: &Daemon, origin: &Origin) {
    let port = origin.addr().port();
    assert_eq!(
        daemon.get(&format!("http://allowed.test:{port}/")).text(),
        "hello"
    );
    assert_eq!(
        daemon.get(&format!("http://blocked.test:{port}/")).status,
        403
    );
    let reported = daemon.admin("GET", "/config", None).json();
    assert_eq!(reported["generation"], 1);
}

fn broken() -> Config {
    Config::example()
        .allow("blocked.test")
        .allow("https://bad.test/")
        .deny("*.*")
        .set("network", "mod", r#""limited""#)
        .set("daemon.limits", "header_timeout", "10")
}

#[test]
fn c7_every_problem_of_a_broken_file_is_returned_with_its_position() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config(&broken());
    let answer = daemon.reload();
    assert_eq!(answer.status, 500);
    let text = answer.text();
    assert!(text.contains(OLD), "{text}");
    let file = std::fs::read_to_string(daemon.config_path()).expect("the file");
    for part in ["https://bad.test/", "*.*", "mod =", "header_timeout"] {
        let (number, line) = (1..)
            .zip(file.lines())
            .find(|(_, line)| line.contains(part))
            .expect("a line with the fault");
        assert!(!line.is_empty());
        let place = format!("{}:{number}:", daemon.config_path().display());
        assert!(text.contains(&place), "{place} is not in\n{text}");
    }
    assert!(text.contains("did you mean `mode`?"), "{text}");
    // Positions and texts of our own, and nothing of the file: every user can request this.
    for part in ["bad.test", "*.*", "= \"limited\"", " | "] {
        assert!(!text.contains(part), "{part} is in\n{text}");
    }
    is_as_before(&daemon, &origin);
}

#[test]
fn c7_problems_after_sighup_are_logged_line_by_line() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config(&broken());
    daemon.signal(Signal::SIGHUP);
    let failed = &daemon.wait_for_messages(1, &format!("the reload failed: {OLD}"))[0];
    assert_eq!(failed.level(), Some("ERROR"));
    let place = format!("{}:", daemon.config_path().display());
    let reported = daemon
        .logs()
        .iter()
        .filter(|line| line.message_contains(&place))
        .count();
    assert_eq!(reported, 4);
    is_as_before(&daemon, &origin);
}

#[test]
fn c7_a_missing_unreadable_or_malformed_file_changes_nothing() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let path = daemon.config_path();
    let whole = std::fs::read(path).expect("the file");
    let fails = |part: &str| {
        let answer = daemon.reload();
        assert_eq!(answer.status, 500, "{part}");
        let text = answer.text();
        assert!(text.contains(part), "{text}");
        is_as_before(&daemon, &origin);
    };
    std::fs::remove_file(path).expect("the test's own file");
    fails("config.toml");
    std::fs::create_dir(path).expect("the test's own directory");
    fails("directory");
    std::fs::remove_dir(path).expect("the test's own directory");
    std::fs::write(path, [&whole[..], b"\xff\n"].concat()).expect("the test's own file");
    fails("not UTF-8");
    std::fs::write(path, &whole[..whole.len() / 2]).expect("the test's own file");
    fails("config.toml:");
    std::fs::write(path, whole).expect("the test's own file");
    assert_eq!(daemon.reload().status, 200, "and the next one works");
}

#[test]
fn c7_valid_settings_that_cannot_be_applied_change_nothing() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let path = daemon.config_path();
    let file = std::fs::read_to_string(path).expect("the file");
    let (old, new) = ("/hosts\"", "/no-such-hosts\"");
    assert!(file.contains(old), "{file}");
    daemon.rewrite_config_text(&file.replace(old, new));
    let answer = daemon.reload();
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("no-such-hosts"), "{}", answer.text());
    is_as_before(&daemon, &origin);
}

/// A file of the configuration may be a link to one that most users may not read.
#[test]
fn a1_a_failed_reload_shows_nothing_of_the_file_over_http() {
    const WORD: &str = "s3cr3tw0rd";
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let sound = std::fs::read_to_string(daemon.config_path()).expect("the file");
    for text in [
        format!("root:{WORD}:1:0:::::\n"),
        format!("{WORD} = \n"),
        format!("[network]\n{WORD} = 1\n"),
        format!("[network]\nmode = \"{WORD}\"\n"),
        format!("[network]\nallowed_domains = [\"https://{WORD}/\"]\n"),
        format!("[network.mitm.actions.{WORD}]\nstrip_request_headers = [\"{WORD} \"]\n"),
        format!("[network]\n[daemon]\nlog = \"{WORD}==[\"\n"),
    ] {
        daemon.rewrite_config_text(&text);
        let answer = daemon.reload();
        assert_eq!(answer.status, 500, "{text}");
        assert!(!answer.text().contains(WORD), "{}", answer.text());
        assert!(answer.text().contains("error: "), "{}", answer.text());
        let reported = daemon.admin("GET", "/config", None).text();
        assert!(!reported.contains(WORD), "{reported}");
        // An administrator sees the line.
        let run = e2e::proxyctl::proxyctl(&daemon, &["reload"]);
        run.failed().says(WORD);
    }
    daemon.rewrite_config_text(&sound);
    is_as_before(&daemon, &origin);
}

/// A replacement worker could not start with an invalid filter, so the reload must fail.
#[test]
fn c7_an_invalid_log_filter_fails_the_reload() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config(&Config::example().set("daemon", "log", r#""==[""#));
    let answer = daemon.reload();
    assert_eq!(answer.status, 500, "{}", answer.text());
    is_as_before(&daemon, &origin);
}
