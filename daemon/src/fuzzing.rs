//! Entry points for the fuzz targets in `tests/fuzz`: the messages between the roles of the
//! service.
//!
//! Compiled only by `cargo fuzz`, which sets `cfg(fuzzing)`. Each function checks the properties that hold
//! for any bytes, and panics where one does not hold.

use crate::ca::Scalar;
use crate::privsep::message::{MAX_TO_MONITOR, ToMonitor, ToWorker};
use crate::privsep::settled::Loaded;

/// Reads a message of either direction. A message that was read is written back as the same bytes.
///
/// # Panics
///
/// Panics if a message has a second encoding.
pub fn read_privsep_message(operation: u8, payload: &[u8]) {
    // The channel never delivers longer ones, and writing cuts texts there.
    let payload = &payload[..payload.len().min(MAX_TO_MONITOR)];
    if let Ok(message) = ToMonitor::decode(operation, payload) {
        assert_eq!(message.encode(), (operation, payload.to_vec()));
    }
    if let Ok(message) = ToWorker::decode(operation, payload) {
        assert_eq!(message.encode(), (operation, payload.to_vec()));
    }
}

/// Reads the loader's output for the monitor.
///
/// # Panics
///
/// Panics if the output has a second encoding.
pub fn read_loaded(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_TO_MONITOR)];
    let Ok(loaded) = Loaded::decode(&Scalar::default(), bytes) else {
        return;
    };
    let (_, again) = loaded.encode();
    assert_eq!(again, bytes);
}
