//! Questions of an embedded proxy, which its embedder answers (SPEC Q8).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use codex_network_proxy::policy::Host;
use codex_network_proxy::{
    ExecutionContext, GrantPorts, GrantRequest, GrantScope, NetworkDecision, NetworkProxyHandle,
    QuestionState,
};

use crate::scene::{LOCAL, Scene, request, run};

const HOUR: GrantRequest = GrantRequest {
    scope: Some(GrantScope::For(Duration::from_secs(3600))),
    ports: GrantPorts::Asked,
};

fn asking(scene: &Scene) -> String {
    let questions = "[daemon.approvals]\nenabled = true\nhold = \"60s\"\n";
    format!("{}{questions}", scene.config(LOCAL))
}

async fn get(handle: &NetworkProxyHandle, url: &str) -> String {
    request(handle.http_addr().expect("a door"), "GET", url, "").await
}

#[tokio::test]
async fn q8_an_asking_decider_is_answered_later_through_the_library() {
    let scene = Scene::new().await;
    let calls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&calls);
    let decider = move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(NetworkDecision::Ask)
    };
    let execution = ExecutionContext {
        command: Some("make".to_owned()),
        ..ExecutionContext::default()
    };
    let builder = scene
        .builder()
        .config_toml(asking(&scene))
        .execution(execution);
    let handle = run(builder.policy_decider(decider)).await;
    let url = format!("http://asked.test:{}/", scene.port);
    // Nobody may answer: refused at once.
    assert!(get(&handle, &url).await.contains(" 403 "));

    let mut questions = handle.questions();
    let answer = async {
        let question = questions.next().await.expect("a question");
        assert_eq!(question.state, QuestionState::Pending);
        assert_eq!(question.host.to_string(), "asked.test");
        assert_eq!(question.command.as_deref(), Some("make"));
        assert_eq!(questions.open().len(), 1);
        let grant = questions.approve(&question.id, HOUR).expect("a grant");
        let granted = questions.next().await.expect("its answer");
        assert_eq!(granted.state, QuestionState::Granted);
        grant.id
    };
    let (answered, id) = tokio::join!(get(&handle, &url), answer);
    assert!(answered.contains(" 200 "), "{answered}");
    // The retry finds the answer.
    assert!(get(&handle, &url).await.contains(" 200 "));
    assert_eq!(questions.grants()[0].uses, 2);
    questions.revoke(&id).expect("in force");
    assert!(questions.grants().is_empty());
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn q8_an_embedder_denies_a_question_and_grants_a_host_without_one() {
    let scene = Scene::new().await;
    let handle = run(scene.builder().config_toml(asking(&scene))).await;
    let url = format!("http://asked.test:{}/", scene.port);
    let mut questions = handle.questions();
    let deny = async {
        let question = questions.next().await.expect("a question");
        questions.deny(&question.id).expect("denied");
    };
    let (answered, ()) = tokio::join!(get(&handle, &url), deny);
    assert!(answered.contains(" 403 "), "{answered}");
    assert!(get(&handle, &url).await.contains(" 403 "));

    let other = Host::parse("other.test").expect("a host");
    let minute = Duration::from_secs(60);
    let url = format!("http://other.test:{}/", scene.port);
    questions.grant(other, minute).expect("a grant");
    assert!(get(&handle, &url).await.contains(" 200 "));
    handle.shutdown().await;
    while questions.next().await.is_some() {}
}
