//! What the tests of laws run their random schedules on.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::{panic, sync::Once};

use tokio::runtime::{Builder, Runtime};

/// How the text of a panic begins that a schedule asks for.
pub(crate) const EXPECTED: &str = "expected panic";

/// One thread, whose clock jumps to the next timer.
pub(crate) fn virtual_time() -> Runtime {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("the runtime starts")
}

pub(crate) fn two_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.enable_time().worker_threads(2).build();
    runtime.expect("the runtime starts")
}

/// Prints no backtrace for what a schedule asks for.
pub(crate) fn quiet_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied());
            if !text.is_some_and(|text| text.starts_with(EXPECTED)) {
                loud(info);
            }
        }));
    });
}
