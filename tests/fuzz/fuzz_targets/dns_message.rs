//! Any bytes are a query for a name, which gets an answer, or another DNS message, or neither (SPEC T1).
#![no_main]

use codex_network_engine::fuzzing::read_dns_message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read_dns_message(bytes));
