//! Clients of interfaces over HTTPS.

use e2e::machine::{Need, has};
use e2e::origin::{Answer, Body, Reply, Request};
use e2e::program::installed;
use serde_json::json;

use super::{Brokered, Through, brokered_tests, holds_any_program};

const OPENAI: &str = "sk-proj-REALreal0123456789abcdefABCDEF-_x";
const ANTHROPIC: &str = "sk-ant-api03-REALreal0123456789abcdefABCDEF-_xyzAA";
const OF_OURS: &str = "REALreal.0123456789/abcdef+ABCDEF==";
const GITHUB: &str = "ghp_REALreal0123456789abcdefABCDEF012345";

/// A client of `openai`, which needs no configuration but the broker.
fn openai_client(script: &str) -> Brokered<'_> {
    Brokered {
        provider: "",
        variable: "OPENAI_API_KEY",
        real: OPENAI,
        field: ("authorization", format!("Bearer {OPENAI}")),
        variables: &[("OPENAI_BASE_URL", "{origin}/v1")],
        files: &[],
        script,
    }
}

/// The models of the account, whose owner is the key.
fn models(request: &Request) -> Answer {
    if request.target == "/v1/models" {
        Answer::json(&json!({ "object": "list", "data": [
            { "id": "tiny", "object": "model", "created": 1, "owned_by": OPENAI },
        ] }))
    } else {
        Answer::status(404)
    }
}

fn curl(through: Through) {
    let script = "curl -sS --fail-with-body -H \"Authorization: Bearer $OPENAI_API_KEY\" \
                  \"$OPENAI_BASE_URL/models\"";
    let run = openai_client(script).works(through, models);
    assert!(run.stdout.contains("\"tiny\""), "{run:#?}");
}

brokered_tests!(curl);

#[test]
fn b3_b8_b9_b12_curl_works_for_an_ordinary_user_of_a_service() {
    if has(Need::Root) && has(Need::ForAll("curl")) {
        curl(Through::OrdinaryUser);
    }
}

/// A credential that only the configuration knows, in a field of its own.
fn curl_with_a_field_of_ours(through: Through) {
    let client = Brokered {
        provider: "[network.credentials.example]\nenv = \"EXAMPLE_TOKEN\"\nurl_prefixes = [\"{origin}/v1\"]\n\
                   auth = \"header\"\nheader = \"x-api-key\"\n",
        variable: "EXAMPLE_TOKEN",
        real: OF_OURS,
        field: ("x-api-key", OF_OURS.to_owned()),
        variables: &[],
        files: &[],
        script: "curl -sS --fail-with-body -H \"x-api-key: $EXAMPLE_TOKEN\" \"$ORIGIN/v1/me\"",
    };
    let run = client.works(through, |_| Answer::json(&json!({ "your key": OF_OURS })));
    let answer = json!({ "your key": super::dummy(&run) });
    assert!(run.stdout.ends_with(&answer.to_string()), "{run:#?}");
}

brokered_tests!(curl_with_a_field_of_ours);

/// In a jail `fetch` needs no proxy. Elsewhere it reads the variables, before version 24 with the agent of undici.
fn node(through: Through) {
    let agent = format!(
        "if (Number(process.versions.node.split(\".\")[0]) < 24) {{ \
         const {{ EnvHttpProxyAgent, setGlobalDispatcher }} = require(\"{}\"); \
         setGlobalDispatcher(new EnvHttpProxyAgent()); }}",
        installed("node/node_modules/undici").display()
    );
    let agent = if holds_any_program(through) {
        ""
    } else {
        &agent
    };
    let script = format!(
        "NODE_USE_ENV_PROXY=1 node -e '{agent} fetch(process.env.OPENAI_BASE_URL + \"/models\", \
         {{ headers: {{ authorization: \"Bearer \" + process.env.OPENAI_API_KEY }} }}) \
         .then(async answer => {{ if (!answer.ok) throw new Error(answer.status); \
         const {{ data }} = await answer.json(); console.log(data[0].id, data[0].owned_by); }})'"
    );
    let run = openai_client(&script).works(through, models);
    let line = format!("tiny {}", super::dummy(&run));
    assert!(
        run.stdout.lines().any(|written| written == line),
        "{run:#?}"
    );
}

brokered_tests!(node);

/// A completion, and one whose events come in small pieces.
fn openai(through: Through) {
    let script = "python - <<'END'\n\
        import openai\n\
        client = openai.OpenAI(max_retries=0)\n\
        print('owner', client.models.list().data[0].owned_by)\n\
        asked = { 'model': 'tiny', 'messages': [{ 'role': 'user', 'content': 'Which key?' }] }\n\
        answer = client.chat.completions.create(**asked)\n\
        print('whole', answer.choices[0].message.content)\n\
        events = client.chat.completions.create(stream=True, **asked)\n\
        print('streamed', ''.join(event.choices[0].delta.content for event in events))\n\
        END";
    let run = openai_client(script).works(through, |request| {
        if request.target != "/v1/chat/completions" {
            return models(request);
        }
        let is_streamed = request.text().replace(' ', "").contains("\"stream\":true");
        let object = |kind: &str, content: &str| {
            json!({ "id": "1", "object": kind, "created": 1, "model": "tiny", "choices": [{
                "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": content },
                "delta": { "role": "assistant", "content": content },
            }] })
        };
        if !is_streamed {
            return Answer::json(&object("chat.completion", &format!("It is {OPENAI}")));
        }
        let events = ["It is ", OPENAI, "."];
        let events =
            events.map(|part| format!("data: {}\n\n", object("chat.completion.chunk", part)));
        let text = events.concat() + "data: [DONE]\n\n";
        let chunks = text.as_bytes().chunks(7).map(<[u8]>::to_vec).collect();
        let reply = Reply::new(
            200,
            Body::Chunked {
                chunks,
                trailers: Vec::new(),
            },
        );
        Answer::Reply(reply.header("content-type", "text/event-stream"))
    });
    let dummy = super::dummy(&run);
    for line in [
        format!("owner {dummy}"),
        format!("whole It is {dummy}"),
        format!("streamed It is {dummy}."),
    ] {
        assert!(
            run.stdout.lines().any(|written| written == line),
            "{line}: {run:#?}"
        );
    }
}

brokered_tests!(openai);

fn anthropic(through: Through) {
    let client = Brokered {
        provider: "[network.credentials.anthropic]\nuse = \"anthropic\"\n",
        variable: "ANTHROPIC_API_KEY",
        real: ANTHROPIC,
        field: ("authorization", format!("Bearer {ANTHROPIC}")),
        variables: &[("ANTHROPIC_BASE_URL", "{origin}")],
        files: &[],
        script: "python - <<'END'\n\
            import anthropic\n\
            client = anthropic.Anthropic(max_retries=0)\n\
            asked = [{ 'role': 'user', 'content': 'Which key?' }]\n\
            answer = client.messages.create(model='tiny', max_tokens=9, messages=asked)\n\
            print('whole', answer.content[0].text)\n\
            END",
    };
    let run = client.works(through, |request| {
        if request.target != "/v1/messages" {
            return Answer::status(404);
        }
        Answer::json(&json!({
            "id": "1", "type": "message", "role": "assistant", "model": "tiny",
            "content": [{ "type": "text", "text": format!("It is {ANTHROPIC}") }],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": { "input_tokens": 1, "output_tokens": 1 },
        }))
    });
    let line = format!("whole It is {}", super::dummy(&run));
    assert!(
        run.stdout.lines().any(|written| written == line),
        "{run:#?}"
    );
}

brokered_tests!(anthropic);

/// GitHub's own program, with a server of the test's own.
fn gh(through: Through) {
    let client = Brokered {
        // The origin is not at the port of HTTPS.
        provider: "[network.credentials.github-enterprise]\nuse = \"github-enterprise\"\n\
                   url_prefixes = [\"{origin}\"]\n",
        variable: "GH_ENTERPRISE_TOKEN",
        real: GITHUB,
        field: ("authorization", format!("token {GITHUB}")),
        variables: &[("GH_NO_UPDATE_NOTIFIER", "1")],
        files: &[],
        script: "GH_HOST=$AUTHORITY gh api user --jq '.login + \" \" + .bio'",
    };
    let run = client.works(through, |request| match request.target.as_str() {
        "/api/v3/user" => Answer::json(&json!({ "login": "tiny", "bio": GITHUB })),
        _ => Answer::status(404),
    });
    let line = format!("tiny {}", super::dummy(&run));
    assert!(
        run.stdout.lines().any(|written| written == line),
        "{run:#?}"
    );
}

brokered_tests!(gh);
