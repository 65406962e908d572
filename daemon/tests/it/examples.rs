//! The examples run to their end (SPEC E1).

#[path = "../../examples/decider.rs"]
mod decider;
#[path = "../../examples/embed.rs"]
mod embed;
#[path = "../../examples/reload.rs"]
mod reload;

#[test]
fn e1_a_proxy_in_the_process_serves_and_refuses() {
    embed::main().expect("the example runs");
}

#[test]
fn e1_a_decider_decides_about_hosts_on_neither_list() {
    decider::main().expect("the example runs");
}

#[test]
fn e1_settings_change_while_the_proxy_runs() {
    reload::main().expect("the example runs");
}
