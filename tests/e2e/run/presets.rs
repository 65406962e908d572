//! `proxyctl presets`, with tools of the test in `PATH`.

use std::os::unix::fs::PermissionsExt as _;

use e2e::program::{Program, Run};
use e2e::shipped;
use serde_json::Value;
use tempfile::TempDir;

/// A directory with one tool, a shell script.
fn tool(name: &str, script: &str) -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    let path = directory.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a new file");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, executable).expect("our own file");
    directory
}

fn presets(tools: &TempDir, arguments: &[&str]) -> Run {
    Program::new(shipped::proxyctl())
        .arg("presets")
        .args(arguments)
        .env("PATH", format!("{}:/usr/bin:/bin", tools.path().display()))
        .run()
}

#[test]
fn j16_the_hosts_of_a_package_manager_are_asked_of_the_tool() {
    let npm = tool(
        "npm",
        r#"echo '{"registry":"https://mirror.example/npm/","@us:registry":"https://own.example"}'"#,
    );
    let run = presets(&npm, &["npm", "--json"]);
    let preset: Value = serde_json::from_str(&run.succeeded().stdout).expect("JSON");
    assert_eq!(preset["patterns"][0]["pattern"], "mirror.example");
    assert_eq!(preset["patterns"][1]["pattern"], "own.example");
    assert_eq!(
        preset["patterns"][1]["source"],
        "npm config get @us:registry"
    );
    assert!(!run.stdout.contains("npmjs"), "{run:#?}");
}

#[test]
fn j16_a_file_of_the_working_directory_does_not_widen_a_preset() {
    let npm = tool(
        "npm",
        "echo \"{\\\"registry\\\":\\\"https://$(basename \"$PWD\").example\\\"}\"",
    );
    // The tool would name a host here.
    let directory = npm.path().join("inside");
    std::fs::create_dir(&directory).expect("our own directory");
    let run = Program::new(shipped::proxyctl())
        .args(["presets", "npm"])
        .env("PATH", format!("{}:/usr/bin:/bin", npm.path().display()))
        .current_dir(&directory)
        .run();
    // It runs in the root directory, whose name is no host.
    assert_eq!(run.failed().code, Some(1));
}

#[test]
fn j16_a_tool_that_fails_or_is_missing_is_a_clear_failure() {
    let npm = tool("npm", "echo 'npm error: no home' >&2; exit 7");
    let run = presets(&npm, &["npm"]);
    assert_eq!(run.failed().code, Some(1));
    run.says("preset npm: npm config list --json failed: npm error: no home");

    let nothing = TempDir::new().expect("a temporary directory");
    let run = Program::new(shipped::proxyctl())
        .args(["presets", "npm"])
        .env("PATH", nothing.path())
        .run();
    assert_eq!(run.failed().code, Some(1));
    run.says("preset npm: npm is not installed");
}

#[test]
fn j16_the_list_has_tools_and_services_and_an_unknown_name_is_an_error() {
    let nothing = TempDir::new().expect("a temporary directory");
    let run = presets(&nothing, &[]);
    for name in ["npm", "pip", "apt", "cargo", "git", "github", "openai"] {
        run.succeeded().says(name);
    }
    let run = presets(&nothing, &["githb"]);
    assert_eq!(run.failed().code, Some(1));
    run.says("there is no preset \"githb\"").says("github");
}
