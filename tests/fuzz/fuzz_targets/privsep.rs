//! A message between the roles of the service has one encoding, and other bytes are refused.
//!
//! The first byte is the operation; operation 0 stands for the output of a loader.
#![no_main]

use codex_network_proxy::fuzzing::{read_loaded, read_privsep_message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((0, loaded)) => read_loaded(loaded),
        Some((&operation, payload)) => read_privsep_message(operation, payload),
        None => {}
    }
});
