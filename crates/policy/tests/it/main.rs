//! Tests of the policy: decision tables, and comparison with naive twins.

mod cases;
mod decide;
mod decider;
mod hooks;
mod naive;
