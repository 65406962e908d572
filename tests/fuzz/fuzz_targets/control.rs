//! Any bytes on the control socket end their own connection at most, and are answered in frames
//! (SPEC K3, K4).
//!
//! An even first byte sends a sound `hello` first.
#![no_main]

#[expect(dead_code, reason = "the contract's tests use the rest")]
#[path = "../../../crates/control/tests/contract/caller.rs"]
mod caller;

use codex_network_control::Access;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    // The scripted service panics for this mode, as a test asks it to.
    if rest.windows(5).any(|window| window == b"panic") {
        return;
    }
    let mut stream = Vec::new();
    if first.is_multiple_of(2) {
        stream.extend(caller::frame(&caller::call(1, caller::HELLO)));
    }
    stream.extend_from_slice(rest);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(caller::serve_bytes(Access::Observe, &stream));
});
