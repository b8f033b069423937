//! A reader-writer module asked from within: what can be answered is, and what never could
//! be fails with the path.

use std::{pin::Pin, time::Duration};

use proptest::{collection::vec, prelude::*};
use reading::{
    Dispatcher, Handle, Message, Subject, describe, doing, pass, read, settle, subject, write,
};
use spark_channel::{Access, Class, Reply, SparkChannelError, Stop, module};
use support::{Gate, Log, queued, reason, within};
use tokio::{sync::oneshot, task::yield_now, time::Instant};

#[path = "support/reading.rs"]
mod reading;
#[path = "support/schedules.rs"]
mod schedules;
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
async fn a_waiting_write_whose_caller_has_gone_closes_no_circle() {
    let module = subject().spawn();
    let dispatcher = module.dispatcher();
    let gate = Gate::closed();
    let (own, held) = (dispatcher.clone(), gate.clone());
    let outer = queued(dispatcher.request(doing(Access::Read, async move {
        pass(&held, "outer").await;
        own.request(read(&Gate::opened(), "inner")).await
    })));
    gate.entered().await;
    let left = queued(dispatcher.request(write(&gate, "left")));
    settle().await;
    drop(left);
    settle().await;
    gate.open();
    assert_eq!(within(outer).await.unwrap(), "inner");
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

/// Sends `message` in some way that waits for room.
type Sending = fn(Dispatcher, Message) -> Pin<Box<dyn Future<Output = SparkChannelError> + Send>>;

#[tokio::test(start_paused = true)]
async fn whatever_waits_for_room_sees_a_circle_that_others_close() {
    check_waiting_for_room(|to, message| {
        Box::pin(async move { reason(to.request(message).await) })
    })
    .await;
    check_waiting_for_room(|to, message| {
        Box::pin(async move { to.command(message).await.expect_err("no room").reason })
    })
    .await;
    check_waiting_for_room(|to, message| {
        Box::pin(async move { to.command_all([message]).await.expect_err("no room").reason })
    })
    .await;
    check_waiting_for_room(|to, message| {
        Box::pin(async move {
            let asked = to.ask_with(|_: Reply<()>| message).await;
            reason(asked)
        })
    })
    .await;
    check_waiting_for_room(|to, message| {
        Box::pin(async move {
            let (slot, answer) = oneshot::channel();
            Reply::from(slot).forward_to(&to, message).await;
            reason(answer.await.expect("answered"))
        })
    })
    .await;
    #[cfg(feature = "tower")]
    check_waiting_for_room(|to, message| {
        use tower::{Service, ServiceExt};
        Box::pin(async move {
            let mut service = to.service();
            reason(service.ready().await.expect("open").call(message).await)
        })
    })
    .await;
}

/// A read of `a` waits for `b`, whose handler waits for room at `a`. Not in vain, as
/// long as reads end and make room; but then a write stands before it that waits for the
/// first read.
async fn check_waiting_for_room(send: Sending) {
    let (a, b) = (
        subject().name("a").readers(2).capacity(1).spawn(),
        subject().name("b").spawn(),
    );
    let (to_a, to_b) = (a.dispatcher(), b.dispatcher());
    let (in_b, other) = (Gate::closed(), Gate::closed());
    let (back, held) = (to_a.clone(), in_b.clone());
    let waits_for_room = doing(Access::Write, async move {
        pass(&held, "in b").await;
        let refused = send(back, answer(Access::Write)).await;
        Ok(path(&refused).join(" "))
    });
    let first = doing(
        Access::Read,
        async move { to_b.request(waits_for_room).await },
    );
    let first = queued(to_a.request(first));
    in_b.entered().await;
    let in_order = |message| {
        let to_a = to_a.clone();
        tokio::spawn(queued(async move { to_a.request(message).await }))
    };
    let mut behind = vec![in_order(read(&other, "second"))];
    other.entered().await;
    // The bound is reached: this one, and all behind it, wait.
    behind.push(in_order(read(&other, "third")));
    behind.extend((0..9).map(|_| in_order(answer(Access::Write))));
    settle().await;

    in_b.open();
    settle().await;
    other.open();

    assert_eq!(within(first).await.unwrap(), "b a b");
    for call in behind {
        within(call).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_is_seen_however_many_messages_it_is_behind() {
    let a = subject().name("a").capacity(4).spawn();
    let b = subject().name("b").spawn();
    let (dispatcher, gate) = (a.dispatcher(), Gate::closed());
    let send = |message| {
        let dispatcher = dispatcher.clone();
        tokio::spawn(queued(async move { dispatcher.request(message).await }))
    };
    // While this one waits, the module looks at whatever it is sent.
    let (to_b, held) = (b.dispatcher(), write(&gate, "held"));
    let first = send(doing(Access::Read, async move { to_b.request(held).await }));
    gate.entered().await;
    let own = dispatcher.clone();
    let nested = doing(Access::Read, async move {
        own.request(answer(Access::Read)).await
    });
    let mut others = vec![first, send(answer(Access::Write))];
    settle().await;
    let nested = send(nested);
    settle().await;
    for access in [Access::Write, Access::Read, Access::Read] {
        others.push(send(answer(access)));
        settle().await;
    }
    others.extend([(); 2].map(|()| send(answer(Access::Read))));
    settle().await;

    gate.open();

    assert_eq!(path(&reason(within(nested).await.unwrap())), ["a", "a"]);
    for call in others {
        within(call).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn of_reads_that_all_wait_for_reads_of_their_own_one_is_refused_and_the_others_go_on() {
    for capacity in [1, 64] {
        let module = subject().readers(3).capacity(capacity).spawn();
        let dispatcher = module.dispatcher();
        let gate = Gate::closed();
        let asking: Vec<_> = (0..3)
            .map(|_| {
                let (own, held) = (dispatcher.clone(), gate.clone());
                let (outer, inner) = (dispatcher.clone(), answer(Access::Read));
                let asking = doing(Access::Read, async move {
                    pass(&held, "asking").await;
                    own.request(inner).await
                });
                tokio::spawn(queued(async move { outer.request(asking).await }))
            })
            .collect();
        for _ in 0..3 {
            gate.entered().await;
        }
        gate.open();
        let mut refused = 0;
        for call in asking {
            if let Err(error) = within(call).await.unwrap() {
                assert!(is_deadlock(&reason::<()>(Err(error))));
                refused += 1;
            }
        }
        assert_eq!(refused, 1);
        assert_eq!(module.shutdown(Stop::Drain).await.stats.handled, 5);
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_all_wait_through_another_module_are_seen_when_the_last_one_does() {
    let a = subject().name("a").readers(2).spawn();
    let b = subject().name("b").spawn();
    let dispatcher = a.dispatcher();
    let gate = Gate::closed();
    let (to_a, held) = (a.dispatcher(), gate.clone());
    let back = doing(Access::Write, async move {
        pass(&held, "back").await;
        to_a.request(answer(Access::Read)).await
    });
    let through_b = queued(dispatcher.request(asks(&b, Access::Read, back)));
    gate.entered().await;
    let own = queued(dispatcher.request(asks(&a, Access::Read, answer(Access::Read))));
    settle().await;

    gate.open();

    let refused = [within(through_b).await, within(own).await]
        .into_iter()
        .filter_map(Result::err);
    let refused: Vec<_> = refused.map(|error| reason::<()>(Err(error))).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(path(&refused[0]).contains(&"a"));
}

#[tokio::test(start_paused = true)]
async fn requests_made_together_are_refused_one_by_one() {
    let module = subject().spawn();
    let (dispatcher, own) = (module.dispatcher(), module.dispatcher());
    let asking = doing(Access::Read, async move {
        let messages = [Access::Read, Access::Write, Access::Read].map(answer);
        let answers = own.request_all(messages).await;
        let refused = answers
            .into_iter()
            .map(|answer| answer.err().map(|e| reason::<()>(Err(e))));
        Ok(format!(
            "{:?}",
            refused
                .map(|error| error.is_some_and(|e| is_deadlock(&e)))
                .collect::<Vec<_>>()
        ))
    });

    let answers = within(dispatcher.request(asking)).await.unwrap();

    // The first one starts before the write is seen.
    assert_eq!(answers, "[false, true, true]");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_comes_before_a_batch_of_a_read_would_deadlock_it() {
    for capacity in [1, 2, 8] {
        let module = subject().capacity(capacity).spawn();
        let (dispatcher, own) = (module.dispatcher(), module.dispatcher());
        // The module has not seen the write when the read asks, and the mailbox may be full.
        let asking = doing(Access::Read, async move {
            let messages = [Access::Read, Access::Read].map(answer);
            let answers = own.request_all(messages).await.into_iter();
            let refused = answers.filter_map(|answer| answer.err().map(|e| reason::<()>(Err(e))));
            Ok(refused.filter(is_deadlock).count().to_string())
        });
        let asking = queued(dispatcher.request(asking));
        let writing = write(&Gate::opened(), "write");
        let writing = queued(dispatcher.request(writing));

        let (asked, wrote) = within(async { tokio::join!(asking, writing) }).await;
        assert_eq!(asked.unwrap(), "2", "{capacity}");
        assert_eq!(wrote.unwrap(), "write");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_has_ended_no_longer_waits_for_what_it_gave_to_a_task() {
    let [a, b] = ["a", "b"].map(|name| subject().name(name).spawn());
    let (gate, to_b) = (Gate::closed(), b.dispatcher());
    let (to_a, held) = (a.dispatcher(), gate.clone());
    let asks_back = doing(Access::Write, async move {
        pass(&held, "back").await;
        to_a.request(answer(Access::Write)).await
    });
    let (given, taken) = oneshot::channel();
    let gives = doing(Access::Read, async move {
        let mut call = queued(async move { to_b.request(asks_back).await });
        assert!(call.poll().is_pending());
        let _ = given.send(call);
        Ok(String::new())
    });
    within(a.dispatcher().request(gives)).await.unwrap();
    let Ok(call) = within(taken).await else {
        panic!("given");
    };
    gate.entered().await;

    gate.open();

    assert_eq!(within(call).await.unwrap(), "");
}

// --- laws

/// What a handler asks for, one after the other, before it ends.
#[derive(Clone, Debug)]
struct Tree {
    /// Of the reader-writer module, or of the one beside it.
    own: bool,
    access: Access,
    /// Whether it goes on in its module's task before it asks.
    yields: bool,
    asks: Vec<Tree>,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_handlers_ask_for_everybody_is_answered(asked in asked()) {
        schedules::virtual_time().block_on(all_are_answered(asked));
    }

    #[test]
    fn whatever_handlers_ask_for_everybody_is_answered_on_several_threads(asked in asked()) {
        schedules::two_threads().block_on(all_are_answered(asked));
    }
}

#[derive(Clone, Debug)]
struct Asked {
    direct_calls: bool,
    readers: usize,
    capacities: [usize; 2],
    trees: Vec<Tree>,
}

async fn all_are_answered(asked: Asked) {
    let own = subject().name("own").readers(asked.readers);
    let mut own = own.capacity(asked.capacities[0]);
    let other = module(Subject {
        log: Log::default(),
    });
    let mut other = other.name("other").capacity(asked.capacities[1]);
    if !asked.direct_calls {
        own = own.without_direct_calls();
        other = other.without_direct_calls();
    }
    let (own, other) = (own.spawn(), other.spawn());
    let modules = [own.dispatcher(), other.dispatcher()];
    let asking: Vec<_> = asked
        .trees
        .into_iter()
        .map(|tree| tokio::spawn(ask(tree, modules.clone())))
        .collect();
    for call in asking {
        within(call).await.unwrap();
    }
    drop(modules);
    let reports = [
        own.shutdown(Stop::Drain).await,
        other.shutdown(Stop::Drain).await,
    ];
    for stats in reports.map(|report| report.stats) {
        let known = stats.handled + stats.abandoned + stats.returned;
        assert_eq!((stats.accounted(), stats.panics), (known, 0));
    }
}

/// Asks, and never minds what for.
fn ask(tree: Tree, modules: [Dispatcher; 2]) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let to = modules[usize::from(!tree.own)].clone();
        let message = doing(tree.access, async move {
            for next in tree.asks {
                if tree.yields {
                    yield_now().await;
                }
                ask(next, modules.clone()).await;
            }
            Ok(String::new())
        });
        let _ = to.request(message).await;
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    let access = || prop_oneof![3 => Just(Access::Read), 1 => Just(Access::Write)];
    let leaf = (any::<bool>(), access()).prop_map(|(own, access)| Tree {
        own,
        access,
        yields: false,
        asks: Vec::new(),
    });
    leaf.prop_recursive(3, 12, 3, move |inner| {
        (any::<[bool; 2]>(), access(), vec(inner, 0..3)).prop_map(
            |([own, yields], access, asks)| Tree {
                own,
                access,
                yields,
                asks,
            },
        )
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let trees = vec(tree(), 1..14);
    (any::<bool>(), 1..4_usize, [1..5_usize, 1..5_usize], trees).prop_map(
        |(direct_calls, readers, capacities, trees)| Asked {
            direct_calls,
            readers,
            capacities,
            trees,
        },
    )
}
