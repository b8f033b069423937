//! The laws of the core, on random schedules: everything accepted is accounted
//! for once, in order, in time, and every caller is told the truth.
//!
//! A [`schedule`] is data; the [`interpreter`] carries it out, the [`ledger`] is
//! written by senders and handlers, and [`laws`] compares it with the report.

use proptest::prelude::*;
use tracing::Level;

use crate::{recording::Recorder, schedules::quiet_expected_panics};

#[path = "laws/interpreter.rs"]
mod interpreter;
#[path = "laws/laws.rs"]
mod laws;
#[path = "laws/ledger.rs"]
mod ledger;
#[path = "laws/racing.rs"]
mod racing;
#[path = "support/recording.rs"]
mod recording;
#[path = "laws/schedule.rs"]
mod schedule;
#[path = "support/schedules.rs"]
mod schedules;
#[path = "laws/stopping.rs"]
mod stopping;
#[path = "laws/subject.rs"]
mod subject;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_hold_in_virtual_time(plan in schedule::plan()) {
        quiet_expected_panics();
        laws::check(&plan, &interpreter::run(&plan, true))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // A command is sent in another way while somebody listens.
    #[test]
    fn a_subscriber_changes_nothing_in_virtual_time(plan in schedule::plan()) {
        quiet_expected_panics();
        let unheard = interpreter::run(&plan, true);
        let heard = {
            let recorder = Recorder::new(Level::DEBUG);
            let _recording = tracing::subscriber::set_default(recorder);
            interpreter::run(&plan, true)
        };
        laws::check(&plan, &heard)?;
        prop_assert_eq!(heard.report.stats, unheard.report.stats);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_laws_hold_on_two_threads(plan in schedule::plan()) {
        quiet_expected_panics();
        laws::check(&plan, &interpreter::run(&plan, false))?;
    }
}
