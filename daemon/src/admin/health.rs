//! `GET /health`: whether the proxy works, in a word or in detail (SPEC O4).

use http::StatusCode;
use serde::Serialize;

use super::ApiAnswer;
use super::answer::{json_as, text};
use crate::observation::{Condition, Fault, Fingerprints, Observation};

/// The body of `GET /health?verbose`.
#[derive(Serialize)]
struct HealthBody<'a> {
    /// `ok` or `degraded`.
    status: &'static str,
    version: &'static str,
    started: i64,
    uptime: u64,
    fingerprints: &'a Fingerprints,
    degraded: &'a [Fault],
}

/// A word for scripts and load balancers.
pub(super) fn plain(condition: Condition) -> ApiAnswer {
    match condition {
        Condition::Sound => text(StatusCode::OK, "ok"),
        Condition::LastGood => text(
            StatusCode::OK,
            "ok: the last good configuration is in force, since the present one cannot be used",
        ),
        Condition::Closed => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the configuration cannot be used, and everything is refused",
        ),
    }
}

/// The degraded parts, each with its time. The status code is that of the plain answer.
pub(super) fn verbose(observation: &Observation, condition: Condition) -> ApiAnswer {
    let body = HealthBody {
        status: if observation.is_sound() {
            "ok"
        } else {
            "degraded"
        },
        version: observation.version,
        started: observation.started,
        uptime: observation.uptime,
        fingerprints: &observation.fingerprints,
        degraded: &observation.faults,
    };
    json_as(plain(condition).status(), &body)
}
