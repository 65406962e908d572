//! The cost of the screen of `proxyctl watch`, which is drawn ten times a second at most (SPEC W4).
//!
//! - `arriving`: the model takes a hundred decisions, a tenth of a second's worth at 1000 a second.
//! - `drawing`: the same, and then the screen is drawn, with what changed written as bytes for a terminal.
//!
//! `proxyctl` is no library, so the files of the screen are compiled in here.
#![expect(
    dead_code,
    unused_imports,
    reason = "the screen's whole face, of which this uses a part"
)]
#![cfg_attr(
    test,
    expect(
        unused_macros,
        reason = "for the tests of these files, which do not run here"
    )
)]

#[path = "../src"]
mod ctl {
    pub(crate) mod listener;
    pub(crate) mod output;

    pub(crate) mod watch {
        mod decision_list;
        mod filter;
        pub(crate) mod keys;
        pub(crate) mod model;
        pub(crate) mod page;
        mod rates;
        mod rows;
        mod selection;
        mod view;

        use std::time::Instant;

        use codex_network_control::Access;
        use codex_network_control::message::{DecisionEntry, Decisions};
        use criterion::Criterion;
        use ratatui::Terminal;
        use ratatui::backend::CrosstermBackend;
        use ratatui::layout::Rect;
        use ratatui::{TerminalOptions, Viewport};

        use self::model::{Model, Update};
        use self::view::Colours;

        /// Decisions between two drawings.
        const ARRIVING: i64 = 100;

        fn decisions(from: i64) -> Decisions {
            let decision = |number: i64| DecisionEntry {
                timestamp: 1_700_000_000 + number / 1000,
                decision: if number % 5 == 0 { "deny" } else { "allow" }.to_owned(),
                reason: "not_allowed".to_owned(),
                source: "baseline_policy".to_owned(),
                protocol: "http-connect".to_owned(),
                host: format!("host-{}.example.com", number % 977),
                port: Some(443),
                method: Some("CONNECT".to_owned()),
                client: Some("127.0.0.1:45678".to_owned()),
                session: Some("3f9a0c1d2e4b5a69".to_owned()),
                user: Some("alice".to_owned()),
                command: Some("cargo".to_owned()),
                rule: Some("*.example.com (config.toml:4)".to_owned()),
                ..DecisionEntry::default()
            };
            Decisions {
                decisions: (from..from + ARRIVING).map(decision).collect(),
                allowed: from.unsigned_abs(),
                ..Decisions::default()
            }
        }

        pub(crate) fn screens(criterion: &mut Criterion) {
            let started = || {
                let mut model = Model::default();
                let access = Update::Connected(Access::Administer, "0.1.0".to_owned());
                model.apply(access, Instant::now());
                model
            };
            let mut group = criterion.benchmark_group("watch");
            let (mut model, mut number) = (started(), 0);
            group.bench_function("arriving", |bencher| {
                bencher.iter(|| {
                    model.apply(Update::Decisions(decisions(number)), Instant::now());
                    number += ARRIVING;
                });
            });
            for (columns, lines) in [(80, 24), (120, 40), (200, 60)] {
                let (mut model, mut number) = (started(), 0);
                model.resized(columns, lines);
                let viewport = Viewport::Fixed(Rect::new(0, 0, columns, lines));
                let backend = CrosstermBackend::new(std::io::sink());
                let terminal = Terminal::with_options(backend, TerminalOptions { viewport });
                let mut terminal = terminal.expect("a screen");
                group.bench_function(format!("drawing/{columns}x{lines}"), |bencher| {
                    bencher.iter(|| {
                        model.apply(Update::Decisions(decisions(number)), Instant::now());
                        number += ARRIVING;
                        let drawn = terminal.draw(|frame| {
                            let area = frame.area();
                            view::draw(&model, Colours::Named, area, frame.buffer_mut());
                        });
                        drawn.expect("a drawing");
                    });
                });
            }
            group.finish();
        }
    }
}

use ctl::{listener, output, watch};

criterion::criterion_group!(benches, watch::screens);
criterion::criterion_main!(benches);
