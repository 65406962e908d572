//! Any bytes on the control socket end the connection or are answered, and no call but `hello` is
//! answered before `hello` (SPEC K3, K4).
#![no_main]

#[expect(dead_code, reason = "the tests of the crate use the rest")]
#[path = "../../../crates/control/tests/it/caller.rs"]
mod caller;

use codex_network_control::Access;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The toy service fails at the calls that the input names.
    if bytes.windows(5).any(|word| word == b"panic") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        // A call may wait for long; nothing here takes time.
        .start_paused(true)
        .build()
        .expect("a runtime");
    let (answers, _ended) = runtime.block_on(caller::serve_bytes(Access::Observe, bytes));
    let mut greeted = false;
    for answer in answers {
        let answered = &answer["Ok"];
        if !answered["Hello"]["Ok"].is_null() {
            greeted = true;
        }
        let made = answered.as_object().into_iter().flatten();
        for (call, outcome) in made.filter(|(call, _)| *call != "Hello") {
            assert!(greeted || outcome["Ok"].is_null(), "{call} before hello");
            let changes = matches!(call.as_str(), "SetMode" | "Reload");
            assert!(!changes || outcome["Ok"].is_null(), "{call} by an observer");
        }
    }
});
