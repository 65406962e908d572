# Short names for what a developer runs all day. `just` lists them; CONTRIBUTING.md explains them.

_list:
    @{{just_executable()}} --list

# Compile errors, formatting and lints of all crates
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings

# The tests of one crate, or those whose name contains NAME: `just test codex-network-policy p4_`
test CRATE NAME="":
    cargo test -p {{CRATE}} {{NAME}}

# Tests over real sockets whose name contains NAME: `just e2e h8_`
e2e NAME:
    cargo test -p e2e --test e2e {{NAME}}

# One fuzz target for a minute: `just fuzz host`
fuzz TARGET SECONDS="60":
    tests/fuzz/night {{SECONDS}} {{TARGET}}

# Every bench beside the code, each once and briefly: `just bench` or `just bench decide`
bench NAME="*":
    cargo bench --workspace --bench '{{NAME}}' -- --quick

# This proxy beside its peers, 8 minutes: `just bench-peers`, or a part: `just bench-peers http-64 tls-new`
bench-peers *SCENARIOS:
    cargo build --release -p codex-network-proxy
    cargo run --release --quiet -p bench -- peers {{SCENARIOS}}

# How the cost of this proxy grows, 3 minutes: `just bench-growth`, or a part: `just bench-growth patterns`
bench-growth *TABLES:
    cargo build --release -p codex-network-proxy
    cargo run --release --quiet -p bench -- growth {{TABLES}}

# The cost of the jail of `proxyctl run`, 3 minutes: `just bench-jail`, or a part: `just bench-jail starts`
bench-jail *PARTS:
    cargo build --release -p codex-network-proxy -p proxyctl
    cargo run --release --quiet -p bench -- jail {{PARTS}}

# Every required check, 30 to 40 minutes
ci:
    .ci/run
