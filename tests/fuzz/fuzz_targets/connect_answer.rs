//! Any bytes are an upstream proxy's answer to CONNECT or not, however they are split (SPEC H12).
#![no_main]

use codex_network_engine::fuzzing::read_connect_answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| read_connect_answer(stream));
