//! Tests of the configuration as a whole: texts go in, and settings or messages come out.

mod constraints;
mod content;
mod credentials;
mod dialects;
mod features;
mod hostile;
mod json;
mod layers;
mod listen;
mod messages;
mod pages;
mod profiles;
mod secrets;
mod telemetry;
