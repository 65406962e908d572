//! A hook covers the same requests as its naive twin, for any hook and any request (SPEC M9, M10).
//!
//! The input is lines: the hook's path, its value of the query's `q`, its value of the field `h`,
//! then the request's target and field.
#![no_main]

#[path = "../../../crates/policy/tests/it/naive/hooks.rs"]
mod naive;

use libfuzzer_sys::fuzz_target;
use naive::Scene;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let scene = Scene {
        path: line(),
        query: line(),
        header: line(),
        target: line(),
        field: line(),
    };
    // The twin tries all combinations: its time grows with every star.
    let stars = |text: &String| text.matches('*').count();
    let slow = [&scene.path, &scene.query, &scene.header]
        .into_iter()
        .any(|text| stars(text) > 4);
    let Some(judged) = scene.judged() else {
        return;
    };
    if !slow && text.len() < 400 {
        assert_eq!(judged, scene.expected(), "{scene:?}");
    }
});
