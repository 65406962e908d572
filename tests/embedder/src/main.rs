//! Runs a command behind a proxy with a decider, like an embedder, without any part of the service.
//! `tests/tidy` builds it and checks its dependencies.

use std::collections::HashMap;
use std::process::ExitCode;

use codex_network_proxy::{NetworkDecision, NetworkPolicyRequest, NetworkProxy, NetworkProxyError};

#[tokio::main]
async fn main() -> Result<ExitCode, NetworkProxyError> {
    let proxy = NetworkProxy::builder()
        .policy_decider(|request: NetworkPolicyRequest| async move {
            if request.host.ends_with(".example.com") {
                NetworkDecision::Allow
            } else {
                NetworkDecision::Ask
            }
        })
        .build()
        .await?;
    let handle = proxy.run().await?;
    let mut environment: HashMap<String, String> = std::env::vars().collect();
    handle.apply_to_env(&mut environment);
    let mut arguments = std::env::args_os().skip(1);
    let ran = arguments.next().map(|program| {
        std::process::Command::new(program)
            .args(arguments)
            .envs(environment)
            .status()
    });
    handle.shutdown().await;
    Ok(match ran {
        Some(Ok(status)) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
