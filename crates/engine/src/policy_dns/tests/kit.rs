//! The parts of the integration tests' kit that tests inside the crate need.

#[path = "../../../tests/it/kit/network.rs"]
pub(crate) mod network;
#[path = "../../../tests/it/kit/process.rs"]
pub(crate) mod process;
#[path = "../../../tests/it/kit/records.rs"]
pub(crate) mod records;
#[path = "../../../tests/it/kit/server.rs"]
pub(crate) mod server;
#[path = "../../../tests/it/kit/stream.rs"]
pub(crate) mod stream;
#[path = "../../../tests/it/kit/tls.rs"]
pub(crate) mod tls;

use std::time::Duration;

/// Time limit for everything that must happen.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
