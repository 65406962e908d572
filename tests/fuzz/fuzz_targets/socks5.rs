//! Any bytes are a SOCKS5 message, the beginning of one, or neither (SPEC S1).
#![no_main]

use codex_network_engine::fuzzing::read_socks5;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_socks5(bytes));
