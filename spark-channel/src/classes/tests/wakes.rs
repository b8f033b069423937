//! No wake is lost, wherever a message comes from and whoever goes away.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};
use tokio_test::{assert_pending, assert_ready, task};

use super::super::{Classes, Kind, Room, Taker, Unaccepted};
use crate::{Class, Deadlocks, Overflow, Priority, control::Control};

type Sender = mpsc::Sender<u32>;

fn classes(default: Class) -> (Sender, Arc<Classes<u32>>) {
    let (sender, receiver) = mpsc::channel(4);
    let control = control();
    let kind = Kind {
        is_shutdown: |message| *message == SHUTDOWN,
        discard: drop,
    };
    (
        sender,
        Classes::new(receiver, default, Arc::new(control), kind),
    )
}

fn control() -> Control {
    let name = "classes".into();
    Control::new(name, 1, 4, None, Duration::ZERO, Deadlocks::Off)
}

fn offer(classes: &Classes<u32>, message: u32) {
    let offered = classes.offer(&Class::DEFAULT, message, None);
    assert!(offered.is_ok(), "there is room");
}

fn full(classes: &Classes<u32>) -> Room<'_, u32> {
    match classes.offer(&Class::DEFAULT, 0, None) {
        Err(Unaccepted::Wait(_, line)) => classes.room(line),
        _ => panic!("it is full, and one may wait"),
    }
}

/// A replica that polls for a message when told to.
struct Replica(task::Spawn<Taker<u32>>);

impl Replica {
    fn new(classes: &Arc<Classes<u32>>, number: usize) -> Self {
        Self(task::spawn(classes.taker(number)))
    }

    fn poll(&mut self) -> Poll<Option<u32>> {
        let polled = self.0.enter(|cx, mut taker| taker.poll_take(cx, |_| {}));
        polled.map(|taken| taken.map(|taken| taken.message))
    }

    fn is_woken(&self) -> bool {
        self.0.is_woken()
    }
}

#[test]
fn who_waits_is_woken_by_what_is_offered_and_by_what_is_sent_to_the_channel() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut replica = Replica::new(&classes, 0);
    for round in 0..10 {
        assert_pending!(replica.poll());
        assert!(!replica.is_woken());
        if round % 2 == 0 {
            offer(&classes, round);
        } else {
            sender.try_send(round).expect("room");
        }
        assert!(replica.is_woken());
        assert_eq!(assert_ready!(replica.poll()), Some(round));
    }
}

/// On two threads that meet as closely as they can: the replica finds nothing and goes to
/// sleep while the message is on its way, which needs no lock.
#[test]
fn what_is_sent_to_the_channel_wakes_a_replica_that_is_just_going_to_sleep() {
    const ROUNDS: u32 = 40_000;
    let (sender, classes) = classes(Class::DEFAULT);
    let taken = Arc::new(AtomicU32::new(0));
    let replica = {
        let (taken, mut taker) = (Arc::clone(&taken), classes.taker(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("the runtime starts");
        std::thread::spawn(move || {
            runtime.block_on(async {
                for round in 0..ROUNDS {
                    taken.store(round, Ordering::Release);
                    let next = poll_fn(|cx| taker.poll_take(cx, |_| {}));
                    let next = tokio::select! {
                        // First, or it would look once more before it says so.
                        biased;
                        () = sleep(Duration::from_secs(30)) => panic!("not woken"),
                        next = next => next.expect("the sender lives"),
                    };
                    assert_eq!(next.message, round);
                }
            });
        })
    };

    for round in 0..ROUNDS {
        let mut spins = 0_u32;
        while taken.load(Ordering::Acquire) < round && !replica.is_finished() {
            spins += 1;
            if spins.is_multiple_of(1_000) {
                // The other side may need this core.
                std::thread::yield_now();
            }
        }
        for _ in 0..round * 7 % 400 {
            std::hint::spin_loop();
        }
        if sender.try_send(round).is_err() {
            break;
        }
    }

    replica.join().expect("no wake was lost");
}

#[test]
fn each_message_wakes_a_replica_of_its_own() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut first = Replica::new(&classes, 0);
    let mut second = Replica::new(&classes, 1);
    assert_pending!(first.poll());
    assert_pending!(second.poll());

    offer(&classes, 1);
    assert!(first.is_woken() && !second.is_woken());
    sender.try_send(2).expect("room");
    assert!(second.is_woken());

    assert_eq!(assert_ready!(second.poll()), Some(1));
    assert_eq!(assert_ready!(first.poll()), Some(2));
}

#[test]
fn what_is_sent_to_the_channel_wakes_an_idle_replica_though_the_last_to_look_is_busy() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut idle = Replica::new(&classes, 0);
    let mut busy = Replica::new(&classes, 1);
    assert_pending!(idle.poll());
    assert_pending!(busy.poll());
    // Both are woken; one of them takes the message, the other waits again.
    sender.try_send(1).expect("room");
    assert_eq!(assert_ready!(busy.poll()), Some(1));
    assert_pending!(idle.poll());

    sender.try_send(2).expect("room");

    assert!(idle.is_woken());
    assert_eq!(assert_ready!(idle.poll()), Some(2));
}

#[test]
fn several_messages_sent_to_the_channel_at_once_wake_one_replica_after_the_other() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut replicas: Vec<_> = (0..3)
        .map(|number| Replica::new(&classes, number))
        .collect();
    for replica in &mut replicas {
        assert_pending!(replica.poll());
    }
    for message in 0..3 {
        sender.try_send(message).expect("room");
    }

    // The channel wakes once; whoever takes and leaves others behind rings on.
    for (message, replica) in (0..3).zip(&mut replicas) {
        assert!(replica.is_woken());
        assert_eq!(assert_ready!(replica.poll()), Some(message));
    }
}

#[test]
fn who_takes_and_leaves_others_behind_does_not_count_on_one_that_is_slow_to_wake() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut slow = Replica::new(&classes, 0);
    let mut idle = Replica::new(&classes, 1);
    let mut busy = Replica::new(&classes, 2);
    assert_pending!(slow.poll());
    assert_pending!(idle.poll());
    for message in 0..3 {
        sender.try_send(message).expect("room");
    }
    assert!(slow.is_woken() && !idle.is_woken());

    assert_eq!(assert_ready!(busy.poll()), Some(0));

    assert!(idle.is_woken());
    assert_eq!(assert_ready!(idle.poll()), Some(1));
}

#[test]
fn a_replica_that_was_woken_and_goes_away_passes_the_wake_on() {
    let (_sender, classes) = classes(Class::DEFAULT);
    let mut gone = Replica::new(&classes, 0);
    let mut stopped = Replica::new(&classes, 1);
    let mut last = Replica::new(&classes, 2);
    for replica in [&mut gone, &mut stopped, &mut last] {
        assert_pending!(replica.poll());
    }

    offer(&classes, 1);
    assert!(gone.is_woken() && !stopped.is_woken());
    drop(gone);
    assert!(stopped.is_woken() && !last.is_woken());
    stopped.0.enter(|_, mut taker| taker.leave());
    assert!(last.is_woken());
    assert_eq!(assert_ready!(last.poll()), Some(1));
}

#[test]
fn all_learn_that_nobody_is_left_who_could_send() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut first = Replica::new(&classes, 0);
    let mut second = Replica::new(&classes, 1);
    assert_pending!(first.poll());
    assert_pending!(second.poll());

    drop(sender);
    assert!(first.is_woken());
    assert_eq!(assert_ready!(first.poll()), None);
    assert!(second.is_woken());
    assert_eq!(assert_ready!(second.poll()), None);
}

#[test]
fn a_free_place_goes_to_who_waited_longest_and_back_if_it_is_not_used() {
    let (_sender, classes) = classes(Class::DEFAULT.capacity(1));
    let mut replica = Replica::new(&classes, 0);
    offer(&classes, 1);
    let mut first = task::spawn(full(&classes));
    let mut second = task::spawn(full(&classes));
    let mut third = task::spawn(full(&classes));
    for room in [&mut first, &mut second, &mut third] {
        assert!(room.poll().is_pending());
    }

    assert_eq!(assert_ready!(replica.poll()), Some(1));
    assert!(first.is_woken() && !second.is_woken());
    let newcomer = classes.offer(&Class::DEFAULT, 9, None);
    assert!(matches!(newcomer, Err(Unaccepted::Wait(9, _))), "overtook");

    // Neither the wait nor the place that it ended with is used.
    drop(first);
    assert!(second.is_woken() && !third.is_woken());
    drop(assert_ready!(second.poll()));
    assert!(third.is_woken());
    let place = assert_ready!(third.poll()).unwrap_or_else(|()| panic!("open"));
    assert_eq!(place.fill(2, None), Ok(()));
    assert_eq!(assert_ready!(replica.poll()), Some(2));
}

#[test]
fn closing_takes_places_back_and_wakes_those_who_wait() {
    let (_sender, classes) = classes(Class::DEFAULT.capacity(1));
    let mut replica = Replica::new(&classes, 0);
    offer(&classes, 1);
    let mut promised = task::spawn(full(&classes));
    let mut waiting = task::spawn(full(&classes));
    assert!(promised.poll().is_pending());
    assert!(waiting.poll().is_pending());
    assert_eq!(assert_ready!(replica.poll()), Some(1));
    let place = assert_ready!(promised.poll()).unwrap_or_else(|()| panic!("open"));

    replica.0.enter(|_, taker| taker.close());

    assert!(waiting.is_woken());
    assert!(assert_ready!(waiting.poll()).is_err());
    assert_eq!(place.fill(2, None), Err(2));
    let offered = classes.offer(&Class::DEFAULT, 3, None);
    assert!(matches!(offered, Err(Unaccepted::Closed(3))));
    assert_eq!(assert_ready!(replica.poll()), None);
}

#[test]
fn what_is_left_is_dropped_with_the_last_replica() {
    let (sender, receiver) = mpsc::channel(4);
    let control = control();
    let kind = Kind {
        is_shutdown: |_| false,
        discard: drop,
    };
    let classes = Classes::new(receiver, Class::DEFAULT, Arc::new(control), kind);
    let (first, last) = (classes.taker(0), classes.taker(1));
    let message = Arc::new(());
    let offered = classes.offer(&Class::DEFAULT, Arc::clone(&message), None);
    assert!(offered.is_ok());
    sender.try_send(Arc::clone(&message)).expect("room");

    drop(first);
    assert_eq!(Arc::strong_count(&message), 3);
    drop(last);
    assert_eq!(Arc::strong_count(&message), 1);
    assert!(sender.is_closed());
}

#[test]
fn the_channel_and_the_lanes_are_one_queue() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut replica = Replica::new(&classes, 0);
    for message in 0..8 {
        if message % 3 == 0 {
            sender.try_send(message).expect("room");
        } else {
            offer(&classes, message);
        }
    }
    for message in 0..8 {
        assert_eq!(assert_ready!(replica.poll()), Some(message));
    }
}

#[test]
fn a_shutdown_comes_after_everything_accepted_before_it_in_any_class() {
    let (sender, classes) = classes(Class::DEFAULT);
    let mut replica = Replica::new(&classes, 0);
    let high = Class::new("high").priority(Priority::High);
    let low = Class::new("low").priority(Priority::Low);
    for (class, message) in [(low, 3), (Class::DEFAULT, 2), (high, 1)] {
        assert!(classes.offer(&class, message, None).is_ok());
    }
    sender.try_send(SHUTDOWN).expect("room");
    for (class, message) in [(low, 6), (Class::DEFAULT, 5), (high, 4)] {
        assert!(classes.offer(&class, message, None).is_ok());
    }

    for message in [1, 2, 3, SHUTDOWN, 4, 5, 6] {
        assert_eq!(assert_ready!(replica.poll()), Some(message));
    }
}

#[test]
fn a_message_that_replaces_another_wakes_nobody_twice() {
    let (_sender, classes) = classes(Class::DEFAULT.capacity(1).overflow(Overflow::DropOldest));
    let mut first = Replica::new(&classes, 0);
    let mut second = Replica::new(&classes, 1);
    assert_pending!(first.poll());
    assert_pending!(second.poll());

    offer(&classes, 1);
    offer(&classes, 2);

    assert!(first.is_woken() && !second.is_woken());
    assert_eq!(assert_ready!(first.poll()), Some(2));
    assert_pending!(second.poll());
}

const SHUTDOWN: u32 = u32::MAX;
