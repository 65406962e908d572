//! `check` for programs: JSON, `--strict`, standard input.

use e2e::program::Run;
use serde_json::{Value, json};

use super::with_files;

fn json_of(run: &Run) -> Value {
    assert_eq!(run.stderr, "", "{run:?}");
    serde_json::from_str(&run.stdout).expect("JSON")
}

#[test]
fn l12_json_has_the_problems_with_their_places() {
    let wrong = "[network]\nmodee = \"full\"\nproxy_url = \"http://0.0.0.0:3128\"\n";
    let program = with_files(&[("policy.toml", wrong)]);
    let run = program.args(["check", "policy.toml", "--json"]).run();
    assert_eq!(run.code, Some(1), "{run:?}");
    let reported = json_of(&run);
    assert_eq!(reported["ok"], json!(false));
    let problems = reported["problems"].as_array().expect("a list");
    let mut error = problems[0].clone();
    let text = error.as_object_mut().and_then(|error| error.remove("text"));
    assert_eq!(
        error,
        json!({
            "severity": "error", "file": "policy.toml", "line": 2, "column": 1,
            "message": "unknown key `modee` in [network]",
        })
    );
    assert!(text.is_some_and(|text| text.to_string().contains("did you mean `mode`?")));
    let missing = with_files(&[])
        .args(["check", "--json", "missing.toml"])
        .run();
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let problem = &json_of(&missing)["problems"][0];
    assert_eq!(
        (&problem["file"], &problem["line"]),
        (&json!("missing.toml"), &json!(0))
    );
}

#[test]
fn l12_json_of_a_good_configuration_is_ok_and_has_its_warnings() {
    let clamped = "[network]\nproxy_url = \"http://0.0.0.0:3128\"\n";
    let program = with_files(&[("policy.toml", clamped)]);
    let run = program.args(["check", "policy.toml", "--json"]).run();
    let reported = json_of(run.succeeded());
    assert_eq!(reported["ok"], json!(true));
    let severities: Vec<&Value> = reported["problems"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|problem| &problem["severity"])
        .collect();
    assert_eq!(severities, ["warning", "note"]);
    let good = with_files(&[(
        "requirements.toml",
        "[experimental_network]\nmode = \"limited\"\n",
    )])
    .args(["check", "requirements.toml", "--json"])
    .run();
    assert_eq!(good.succeeded().stdout, "{\"ok\":true,\"problems\":[]}\n");
}

#[test]
fn l12_json_counts_the_problems_that_it_does_not_list() {
    let many: Vec<String> = (0..150).map(|index| format!("x{index} = 1\n")).collect();
    let program = with_files(&[("policy.toml", &format!("[network]\n{}", many.concat()))]);
    let run = program.args(["check", "policy.toml", "--json"]).run();
    let reported = json_of(run.failed());
    let problems = reported["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[100]["message"], json!("50 more errors"));
    assert_eq!(problems[100]["text"], json!("and 50 more errors"));
}

#[test]
fn l12_strict_fails_on_warnings_and_not_on_notes() {
    let clamped = "[network]\nproxy_url = \"http://0.0.0.0:3128\"\n";
    let check = |text: &str, options: &[&str]| {
        let program = with_files(&[("policy.toml", text)]);
        program.args(["check", "policy.toml"]).args(options).run()
    };
    check(clamped, &[]).succeeded();
    let run = check(clamped, &["--strict"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(run.stdout, "");
    run.says("error: 1 warning, and --strict makes it an error");
    let run = check(clamped, &["--strict", "--json"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(json_of(&run)["ok"], json!(false));
    let run = check("[network]\nmode = \"full\"\n", &["--strict"]);
    run.succeeded().says("note: ");
}

#[test]
fn l12_a_minus_is_standard_input() {
    let check = |text: &[u8], words: &[&str]| {
        let program = with_files(&[("policy.toml", "[network]\nmode = \"full\"\n")]);
        program.arg("check").args(words).stdin(text).run()
    };
    check(b"[network]\nmode = \"limited\"\n", &["-"])
        .succeeded()
        .says("read <stdin>\nok: enabled, limited mode");
    check(b"[network]\nmode = 1\n", &["-"])
        .failed()
        .says("error: <stdin>:2:8: `mode`");
    let bounds = b"[experimental_network]\nmode = \"limited\"\n";
    check(bounds, &["--requirements", "-"])
        .succeeded()
        .says("read <stdin>\nok: requirements, 1 bound,");
    check(bounds, &["policy.toml", "--requirements", "-"])
        .failed()
        .says("error: policy.toml:2:8: invalid value");
    check(b"\xff", &["-"])
        .failed()
        .says("error: <stdin>: is not UTF-8");
    let twice = check(b"", &["-", "--requirements", "-"]);
    assert_eq!(twice.code, Some(2), "{twice:?}");
    twice.says("standard input can be read once");
}
