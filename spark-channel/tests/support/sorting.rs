//! A module that sorts its messages by their first word.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use spark_channel::{
    Class, ClassStats, HandleOf, ModuleBuilder, Overflow, Priority, Stats, Stop, module,
};

use crate::support::{Gate, Gated, within};

pub(crate) const CONTROL: Class = Class::new("control")
    .priority(Priority::Control)
    .capacity(2);
pub(crate) const HIGH: Class = Class::new("high").priority(Priority::High);
pub(crate) const LOW: Class = Class::new("low").priority(Priority::Low);
pub(crate) const LATEST: Class = Class::new("latest")
    .capacity(2)
    .overflow(Overflow::DropOldest);

/// `high 1` has the class `high`; of `quote a 7`, `a` is the key.
pub(crate) fn classify(message: &str) -> Class {
    let mut words = message.split(' ');
    match words.next().unwrap_or_default() {
        "control" => CONTROL,
        "high" => HIGH,
        "low" => LOW,
        "latest" => LATEST,
        "quote" => LATEST.conflate(words.next().unwrap_or_default()),
        _ => Class::DEFAULT,
    }
}

/// A module that is busy with `running`, and what came after it waits.
pub(crate) async fn busy(gate: &Gate, builder: ModuleBuilder<Gated>) -> HandleOf<Gated> {
    let module = builder.spawn();
    let running = module.dispatcher().try_command("running");
    running.expect("room");
    gate.entered().await;
    module
}

pub(crate) async fn sorted(gate: &Gate) -> HandleOf<Gated> {
    let builder = module(gate.module()).classify(|message| classify(message));
    busy(gate, builder).await
}

/// Opens the gate, drains the module, and says in which order it handled what.
pub(crate) async fn drained(gate: &Gate, module: HandleOf<Gated>) -> (Vec<String>, Stats) {
    gate.open();
    let stats = within(module.shutdown(Stop::Drain)).await.stats;
    let mut lines = gate.log.lines();
    assert_eq!(lines.remove(0), "running");
    assert_eq!(lines.pop().as_deref(), Some("stopped"));
    (lines, stats)
}

pub(crate) fn class<'a>(stats: &'a [ClassStats], name: &str) -> &'a ClassStats {
    let mut stats = stats.iter();
    stats.find(|stats| stats.name == name).expect("was seen")
}
