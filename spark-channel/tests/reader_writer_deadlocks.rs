//! A reader-writer module asked from within: what can be answered is, and what never could
//! be fails with the path.

use std::time::Duration;

use reading::{Handle, Message, describe, doing, pass, read, settle, subject, write};
use spark_channel::{Access, Class, SparkChannelError, Stop};
use support::{Gate, queued, reason, within};
use tokio::time::Instant;

#[path = "support/reading.rs"]
mod reading;
mod support;

#[tokio::test(start_paused = true)]
async fn a_read_may_ask_its_own_module_for_a_read() {
    let module = subject().readers(2).spawn();
    for limit in [None, Some(Duration::from_secs(5))] {
        let start = Instant::now();
        let asked = within(nested(&module, Access::Read, Access::Read, limit)).await;
        let seen = limit.map_or("subject none".to_owned(), |_| "subject 5".to_owned());
        assert_eq!(asked.unwrap(), seen);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_never_be_answered_would_deadlock() {
    for (readers, outer, inner) in [
        (2, Access::Read, Access::Write),
        (2, Access::Write, Access::Read),
        (2, Access::Write, Access::Write),
        (1, Access::Read, Access::Read),
        (1, Access::Read, Access::Write),
    ] {
        let module = subject().readers(readers).spawn();
        let error = reason(within(nested(&module, outer, inner, None)).await);
        assert!(is_deadlock(&error), "{readers} {outer:?} {inner:?}");
        let again = module.dispatcher();
        within(again.request(read(&Gate::opened(), "again")))
            .await
            .unwrap();
        let report = module.shutdown(Stop::Drain).await;
        // The one that asked, and the one after; what was accepted came back.
        assert_eq!(report.stats.handled, 2);
        assert_eq!(report.stats.returned + report.stats.rejected, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_asked_for_behind_a_waiting_write_would_deadlock() {
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let gate = Gate::closed();
    let (own, held) = (dispatcher.clone(), gate.clone());
    let asking = doing(Access::Read, async move {
        pass(&held, "asking").await;
        own.request(read(&Gate::opened(), "nested")).await
    });
    let asking = queued(dispatcher.request(asking));
    gate.entered().await;
    let waiting = queued(dispatcher.request(write(&Gate::opened(), "write")));
    settle().await;
    gate.open();
    assert!(is_deadlock(&reason(within(asking).await)));
    assert_eq!(within(waiting).await.unwrap(), "write");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_comes_between_a_read_and_what_it_asks_for_would_deadlock() {
    let cases = [(1, 0), (2, 0), (2, 1), (2, 40), (64, 40)];
    let plain = cases.map(|(capacity, others)| (subject(), capacity, others));
    let sorted = cases.map(|(capacity, others)| {
        let builder = subject().classify(|message| match message.access {
            Some(Access::Read) => Class::DEFAULT,
            _ => Class::DEFAULT.conflate("never: these are requests"),
        });
        (builder, capacity, others)
    });
    for (builder, capacity, others) in plain.into_iter().chain(sorted) {
        let module = builder.capacity(capacity).spawn();
        let dispatcher = module.dispatcher();
        let own = dispatcher.clone();
        // The module has not seen the write when the read asks, and the mailbox may be full.
        let asking = doing(Access::Read, async move {
            own.request(read(&Gate::opened(), "nested")).await
        });
        let asking = queued(dispatcher.request(asking));
        let in_order = |message| {
            let dispatcher = dispatcher.clone();
            let call = queued(async move { dispatcher.request(message).await });
            tokio::spawn(call)
        };
        let write = in_order(write(&Gate::opened(), "write"));
        let behind: Vec<_> = (0..others)
            .map(|_| in_order(read(&Gate::opened(), "behind")))
            .collect();
        let error = reason(within(asking).await);
        assert!(is_deadlock(&error), "{others} behind: {error:?}");
        assert_eq!(within(write).await.unwrap().unwrap(), "write");
        for call in behind {
            assert_eq!(within(call).await.unwrap().unwrap(), "behind");
        }
        let stats = module.shutdown(Stop::Drain).await.stats;
        assert_eq!(stats.accounted() + stats.rejected, 3 + others);
    }
}

/// A request that makes a request of the same module, and answers what that one says.
async fn nested(
    module: &Handle,
    outer: Access,
    inner: Access,
    limit: Option<Duration>,
) -> eyre::Result<String> {
    let start = Instant::now();
    let own = module.dispatcher();
    let asking = doing(outer, async move {
        let inner = doing(inner, async move { Ok(describe(start)) });
        own.request(inner).await
    });
    let dispatcher = module.dispatcher();
    let request = dispatcher.request(asking);
    match limit {
        None => request.await,
        Some(limit) => request.timeout(limit).await,
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_a_read_asks_may_ask_back_for_a_read() {
    let [a, b] = ["a", "b"].map(|name| subject().name(name).spawn());
    let back = asks(&a, Access::Write, answer(Access::Read));
    let there = asks(&b, Access::Read, back);
    assert_eq!(within(a.dispatcher().request(there)).await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn a_module_that_a_read_asks_must_not_ask_back_for_a_write() {
    let [a, b] = ["a", "b"].map(|name| subject().name(name).spawn());
    let back = asks(&a, Access::Write, answer(Access::Write));
    let there = asks(&b, Access::Read, back);
    let error = reason(within(a.dispatcher().request(there)).await);
    assert_eq!(path(&error), ["b", "a", "b"]);
    assert_eq!(a.stats().returned, 1);
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_what_the_read_that_it_asked_for_waits_for() {
    let [a, b, c] = ["a", "b", "c"].map(|name| subject().name(name).spawn());
    let last = asks(&c, Access::Read, answer(Access::Write));
    let middle = asks(&a, Access::Write, last);
    let first = asks(&b, Access::Write, middle);
    // Another read of the same module waits for something else.
    let other = asks(&b, Access::Read, answer(Access::Write));
    let error = reason(within(c.dispatcher().request(first)).await);
    assert_eq!(path(&error), ["a", "c", "b", "a"]);
    assert_eq!(within(a.dispatcher().request(other)).await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn what_a_read_beside_it_waits_for_is_not_what_a_read_waits_for() {
    let [a, b] = ["a", "b"].map(|name| subject().name(name).spawn());
    let gate = Gate::closed();
    let held = gate.clone();
    let (to_a, to_b) = (a.dispatcher(), b.dispatcher());
    // `b` waits for a read of `a`, which waits for the gate.
    let waiting = queued(to_b.request(doing(Access::Write, async move {
        to_a.request(read(&held, "held")).await
    })));
    gate.entered().await;
    // Another read of `a` asks `b`, which answers once the gate opens.
    let dispatcher = a.dispatcher();
    let asking = queued(dispatcher.request(asks(&b, Access::Read, answer(Access::Write))));
    settle().await;
    gate.open();
    assert_eq!(within(asking).await.unwrap(), "");
    assert_eq!(within(waiting).await.unwrap(), "held");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_begins_to_wait_closes_a_circle_with_what_is_behind_it() {
    let [a, b] = ["a", "b"].map(|name| subject().name(name).capacity(4).spawn());
    let (first, second) = (Gate::closed(), Gate::closed());
    let (to_a, to_b, held) = (a.dispatcher(), b.dispatcher(), second.clone());
    // `b` is at work, and will ask `a` for a read.
    let back = doing(Access::Write, async move {
        pass(&held, "back").await;
        to_a.request(answer(Access::Read)).await
    });
    let held = first.clone();
    let there = doing(Access::Read, async move {
        pass(&held, "there").await;
        to_b.request(back).await
    });
    let dispatcher = a.dispatcher();
    let call = queued(dispatcher.request(there));
    first.entered().await;
    first.open();
    second.entered().await;
    let write = queued(dispatcher.request(answer(Access::Write)));
    second.open();
    let error = reason(within(call).await);
    assert_eq!(path(&error), ["b", "a", "b"]);
    assert_eq!(within(write).await.unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waits_for_room_closes_a_circle_when_reads_may_not_start_any_more() {
    let a = subject().name("a").readers(2).capacity(1).spawn();
    let b = subject().name("b").spawn();
    let (in_b, reads) = (Gate::closed(), Gate::closed());
    let send = |message| {
        let dispatcher = a.dispatcher();
        tokio::spawn(queued(async move { dispatcher.request(message).await }))
    };
    let (to_a, to_b, held) = (a.dispatcher(), b.dispatcher(), in_b.clone());
    let back = doing(Access::Write, async move {
        pass(&held, "back").await;
        match to_a.command(answer(Access::Write)).await {
            Ok(()) => Ok(String::new()),
            Err(refused) => Err(refused.reason.into()),
        }
    });
    let asking = send(doing(Access::Read, async move { to_b.request(back).await }));
    in_b.entered().await;
    // Another read is at work, a third waits for its desk, and writes behind it.
    let mut others = vec![send(read(&reads, "read")), send(read(&reads, "read"))];
    settle().await;
    others.extend((0..8).map(|_| send(answer(Access::Write))));
    settle().await;
    in_b.open();
    settle().await;
    assert!(!asking.is_finished(), "`a` may still make room");
    reads.open();

    let error = reason(within(asking).await.expect("no panic"));
    assert_eq!(path(&error), ["b", "a", "b"]);
    for other in others {
        within(other).await.expect("no panic").expect("answered");
    }
}

/// Asks `module`, and answers what it says.
fn asks(module: &Handle, access: Access, message: Message) -> Message {
    let dispatcher = module.dispatcher();
    doing(access, async move { dispatcher.request(message).await })
}

fn answer(access: Access) -> Message {
    doing(access, async { Ok(String::new()) })
}

fn path(error: &SparkChannelError) -> Vec<&str> {
    let SparkChannelError::WouldDeadlock { path } = error else {
        panic!("not a deadlock: {error}");
    };
    path.iter().map(|name| &**name).collect()
}

fn is_deadlock(error: &SparkChannelError) -> bool {
    path(error) == ["subject", "subject"]
}
