//! The decider inside interception, and its records (SPEC P8, R3).

use std::sync::Arc;

use codex_network_engine::{
    AuditEvent, AuditMetadata, EngineParts, NetworkDecision, NetworkPolicyRequest, Override,
};
use codex_network_policy::{Policy, PolicySpec, Protocol, Unlisted};
use tokio::sync::Notify;

use super::request;
use super::scene::{Scene, ask, settings};
use crate::kit::records::Records;

/// Nothing is listed.
const LIMITED: &str = "[network]\nmode = \"limited\"\n";

/// The fields of SPEC R3: `decision source reason override protocol host conversation`.
fn line(event: &AuditEvent) -> String {
    format!(
        "{} {} {} {} {} {} {}",
        event.decision.verdict(),
        event.decision.source(),
        event.reason,
        event.overridden == Override::Overridden,
        event.protocol.audit_name(),
        event.server_address,
        event.metadata.conversation_id.as_deref().unwrap_or("none"),
    )
}

#[tokio::test]
async fn p8_r3_the_decider_decides_about_every_request_inside_and_records_say_so() {
    let records = Records::new(line);
    let sink = Arc::clone(&records);
    let decider = |request: NetworkPolicyRequest| async move {
        match (request.protocol, request.method.as_deref()) {
            (Protocol::Https, Some("HEAD")) => NetworkDecision::deny("no_head"),
            _ => NetworkDecision::Allow,
        }
    };
    let amend = |parts: &mut EngineParts| {
        parts.decider = Some(Arc::new(decider));
        parts.audit = sink;
        parts.audit_metadata = AuditMetadata {
            conversation_id: Some("c1".to_owned()),
            ..AuditMetadata::default()
        };
    };
    let scene = Scene::amended(LIMITED, &["http/1.1"], None, amend).await;
    for (method, status, recorded) in [
        (
            "GET",
            200,
            "allow decider not_allowed true https origin.test c1",
        ),
        (
            "HEAD",
            403,
            "deny decider no_head false https origin.test c1",
        ),
        (
            "POST",
            403,
            "deny mode_guard method_not_allowed false https origin.test c1",
        ),
    ] {
        let stream = scene
            .tls("origin.test:443", "origin.test", scene.ca.client(&[]))
            .await
            .expect("the proxy's certificate");
        let answer = ask(stream, request(method, "/path")).await;
        assert_eq!(answer.status(), status, "{method}");
        let outside = "allow decider not_allowed true https_connect origin.test c1";
        assert_eq!(records.take(), [outside, recorded], "{method}");
    }
}

#[tokio::test]
async fn p8_c7_settings_that_change_while_the_decider_runs_count() {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&asked), Arc::clone(&go_on));
    let decider = move |_: NetworkPolicyRequest| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            NetworkDecision::Allow
        }
    };
    let amend = |parts: &mut EngineParts| parts.decider = Some(Arc::new(decider));
    let scene = Scene::amended("", &["http/1.1"], None, amend).await;
    let (answer, ()) = tokio::join!(scene.refused("origin.test:443"), async {
        asked.notified().await;
        let denied = "[network]\ndenied_domains = [\"origin.test\"]\n";
        let denied = Arc::new(settings(denied));
        scene.doors.engine.replace(&denied).expect("settings");
        go_on.notify_one();
    });
    assert!(answer.contains("\"reason\":\"denied\""), "{answer}");
    let blocked = scene.doors.engine.blocked().entries(0);
    assert_eq!(blocked[0].rule.as_deref(), Some("origin.test (test:2)"));
}

/// The decider does not run if only the managed list may allow.
#[tokio::test]
async fn p8_c6_a_requirement_overrides_the_decider() {
    let decider = |_: NetworkPolicyRequest| async { NetworkDecision::Allow };
    let amend = |parts: &mut EngineParts| parts.decider = Some(Arc::new(decider));
    let scene = Scene::amended("", &["http/1.1"], None, amend).await;
    let mut managed = settings("");
    managed.managed.allowed_domains_only = true;
    let spec = PolicySpec {
        unlisted: Unlisted::Refused,
        ..PolicySpec::default()
    };
    managed.policy = Arc::new(Policy::compile(&spec).expect("no lists"));
    scene
        .doors
        .engine
        .replace(&Arc::new(managed))
        .expect("settings");
    let answer = scene.refused("origin.test:443").await;
    assert!(answer.contains("\"reason\":\"not_allowed\""), "{answer}");
}
