//! Topics: every event to every subscriber, each with a bounded backlog.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use spark_channel::{
    Backlog, Detached, SparkChannelError, Stage, Stop, SubscriptionEnd, Topic, module,
};
use tokio::sync::oneshot;
use tokio_test::{assert_pending, assert_ready, task};

use crate::support::{Gate, Runner, job, within};

mod support;

fn topic() -> Topic<u32> {
    Topic::new("numbers")
}

/// Publishes what must not have to wait.
#[track_caller]
fn publish(topic: &Topic<u32>, events: impl IntoIterator<Item = u32>) {
    for event in events {
        topic.try_publish(event).expect("room");
    }
}

fn received(subscription: &mut spark_channel::Subscription<u32>) -> Vec<u32> {
    std::iter::from_fn(|| subscription.try_recv()).collect()
}

#[tokio::test]
async fn every_subscriber_gets_every_event_in_order() {
    let topic = topic();
    let mut subscribers = [(); 3].map(|()| topic.subscribe(Backlog::wait(8)));

    for event in 0..5 {
        assert_eq!(within(topic.publish(event)).await.expect("open"), 3);
    }

    for subscriber in &mut subscribers {
        assert_eq!(received(subscriber), [0, 1, 2, 3, 4]);
    }
}

#[tokio::test]
async fn a_subscriber_gets_what_is_published_from_then_on() {
    let topic = topic();
    assert_eq!(topic.try_publish(1).expect("open"), 0);
    let mut subscriber = topic.subscribe(Backlog::wait(8));
    publish(&topic, [2]);

    assert_eq!(within(subscriber.recv()).await, Some(2));
    assert_eq!(subscriber.try_recv(), None);
}

// --- policies

#[test]
fn publishing_waits_for_a_subscriber_that_waits_and_nobody_has_got_the_event_meanwhile() {
    let topic = topic();
    let mut slow = topic.subscribe(Backlog::wait(1));
    let mut quick = topic.subscribe(Backlog::wait(8));
    publish(&topic, [1]);

    let mut waiting = task::spawn(topic.publish(2));
    assert_pending!(waiting.poll());
    assert_eq!(topic.stats().waiting, 1);
    assert_eq!(received(&mut quick), [1]);

    assert_eq!(slow.try_recv(), Some(1));
    assert!(waiting.is_woken());
    assert_eq!(assert_ready!(waiting.poll()).expect("open"), 2);
    assert_eq!(
        (received(&mut slow), received(&mut quick)),
        (vec![2], vec![2])
    );
}

#[test]
fn a_publisher_that_gives_up_has_published_nothing_and_lets_the_next_one_through() {
    let topic = topic();
    let mut subscriber = topic.subscribe(Backlog::wait(1));
    publish(&topic, [1]);
    let mut first = task::spawn(topic.publish(2));
    let mut second = task::spawn(topic.publish(3));
    assert_pending!(first.poll());
    assert_pending!(second.poll());

    assert_eq!(subscriber.try_recv(), Some(1));
    assert!(first.is_woken() && !second.is_woken());
    drop(first);

    assert!(second.is_woken());
    assert!(assert_ready!(second.poll()).is_ok());
    assert_eq!(received(&mut subscriber), [3]);
}

#[test]
fn nobody_overtakes_a_publisher_that_waits() {
    let topic = topic();
    let mut subscriber = topic.subscribe(Backlog::wait(1));
    publish(&topic, [1]);
    let mut first = task::spawn(topic.publish(2));
    assert_pending!(first.poll());
    assert_eq!(subscriber.try_recv(), Some(1));

    let refused = topic.try_publish(3).expect_err("somebody waits");
    let mut second = task::spawn(topic.publish(4));
    assert_pending!(second.poll());

    assert_eq!(
        (refused.message, refused.reason),
        (3, SparkChannelError::Full)
    );
    assert!(assert_ready!(first.poll()).is_ok());
    assert_eq!(subscriber.try_recv(), Some(2));
    assert!(assert_ready!(second.poll()).is_ok());
    assert_eq!(subscriber.try_recv(), Some(4));
}

#[test]
fn a_full_backlog_misses_the_newest_or_the_oldest_by_policy_and_counts_it() {
    let topic = topic();
    let mut newest = topic.subscribe(Backlog::drop_newest(2));
    let mut oldest = topic.subscribe(Backlog::drop_oldest(2));

    publish(&topic, 1..=5);

    assert_eq!(topic.stats().dropped, 6);
    assert_eq!((newest.stats().waiting, newest.stats().dropped), (2, 3));
    assert_eq!(
        (received(&mut newest), received(&mut oldest)),
        (vec![1, 2], vec![4, 5])
    );
    let stats = oldest.stats();
    assert_eq!((stats.offered, stats.received, stats.dropped), (5, 2, 3));
}

#[tokio::test]
async fn a_slow_subscriber_is_disconnected_after_what_waited_for_it() {
    let topic = topic();
    let mut slow = topic.subscribe(Backlog::disconnect(2));
    let mut other = topic.subscribe(Backlog::wait(8));

    publish(&topic, 1..=4);

    assert_eq!(received(&mut slow), [1, 2]);
    assert_eq!(within(slow.recv()).await, None);
    assert_eq!(slow.end(), Some(SubscriptionEnd::TooSlow));
    assert_eq!(received(&mut other), [1, 2, 3, 4]);
    let stats = topic.stats();
    assert_eq!(
        (stats.subscribers, stats.disconnected, stats.dropped),
        (1, 1, 1)
    );
}

#[test]
fn of_each_key_only_the_latest_event_waits() {
    let topic = topic();
    let mut subscriber = topic.subscribe(Backlog::conflate_by(2, |event: &u32| event / 10));

    publish(&topic, [10, 20, 11, 12]);
    assert_eq!(received(&mut subscriber), [20, 12]);
    assert_eq!(subscriber.stats().conflated, 2);

    publish(&topic, [10, 20, 30]);
    assert_eq!(received(&mut subscriber), [20, 30]);
    assert_eq!(subscriber.stats().dropped, 1);
    assert_eq!(topic.stats().conflated, 2);
}

#[test]
#[should_panic(expected = "room for one event")]
fn a_backlog_without_room_is_refused() {
    let _ = Backlog::<u32>::wait(0);
}

// --- the end

#[tokio::test]
async fn a_closed_topic_refuses_events_and_ends_subscriptions_after_what_waits() {
    let topic = topic();
    let mut subscriber = topic.subscribe(Backlog::wait(1));
    publish(&topic, [1]);
    let mut waiting = task::spawn(topic.publish(2));
    assert_pending!(waiting.poll());

    topic.close();

    assert!(waiting.is_woken());
    let refused = assert_ready!(waiting.poll()).expect_err("closed");
    assert_eq!(
        (refused.message, refused.reason),
        (2, SparkChannelError::Closed)
    );
    assert_eq!(within(subscriber.recv()).await, Some(1));
    assert_eq!(within(subscriber.recv()).await, None);
    assert_eq!(subscriber.end(), Some(SubscriptionEnd::Closed));
    let late = topic.subscribe(Backlog::wait(1));
    assert_eq!(late.end(), Some(SubscriptionEnd::Closed));
}

#[test]
fn the_last_publisher_closes_the_topic_and_wakes_who_waits_for_an_event() {
    let topic = topic();
    let other = topic.clone();
    let mut subscriber = topic.subscribe(Backlog::wait(1));
    let mut receiving = task::spawn(subscriber.recv());
    assert_pending!(receiving.poll());

    drop(topic);
    assert!(!receiving.is_woken());
    drop(other);

    assert!(receiving.is_woken());
    assert_eq!(assert_ready!(receiving.poll()), None);
}

#[test]
fn publishers_do_not_wait_for_who_has_unsubscribed() {
    let topic = topic();
    let slow = topic.subscribe(Backlog::wait(1));
    let mut other = topic.subscribe(Backlog::wait(8));
    publish(&topic, [1]);
    let mut waiting = task::spawn(topic.publish(2));
    assert_pending!(waiting.poll());

    drop(slow);

    assert!(waiting.is_woken());
    assert_eq!(assert_ready!(waiting.poll()).expect("open"), 1);
    assert_eq!(received(&mut other), [1, 2]);
}

#[test]
fn events_that_wait_are_dropped_with_their_subscription() {
    let event = Arc::new(());
    let topic = Topic::new("shared");
    let subscriber = topic.subscribe(Backlog::wait(8));
    for _ in 0..3 {
        topic.try_publish(Arc::clone(&event)).expect("room");
    }
    assert_eq!(Arc::strong_count(&event), 4);

    drop(subscriber);

    assert_eq!(Arc::strong_count(&event), 1);
}

#[test]
fn a_clone_that_panics_reaches_nobody() {
    #[derive(Debug)]
    struct Brittle(bool);
    impl Clone for Brittle {
        fn clone(&self) -> Self {
            assert!(!self.0, "no copy");
            Self(self.0)
        }
    }
    let topic = Topic::new("brittle");
    let mut subscribers = [(); 2].map(|()| topic.subscribe(Backlog::wait(1)));

    let broken = std::panic::AssertUnwindSafe(|| topic.try_publish(Brittle(true)));
    assert!(std::panic::catch_unwind(broken).is_err());

    assert!(subscribers.iter_mut().all(|one| one.try_recv().is_none()));
    assert_eq!(topic.try_publish(Brittle(false)).expect("room"), 2);
    assert!(subscribers.iter_mut().all(|one| one.try_recv().is_some()));
}

#[test]
fn an_event_may_use_its_topic_while_it_is_dropped() {
    #[derive(Clone)]
    struct Curious(Topic<Curious>);
    impl Drop for Curious {
        fn drop(&mut self) {
            let _ = self.0.stats();
        }
    }
    let (done, finished) = mpsc::sync_channel(1);
    // If it hangs, it hangs for good.
    std::thread::spawn(move || {
        let topic = Topic::new("curious");
        let mut offered = Vec::new();
        offered.extend(topic.try_publish(Curious(topic.clone())).ok());
        let latest = topic.subscribe(Backlog::drop_oldest(1));
        let _oldest = topic.subscribe(Backlog::disconnect(1));
        for _ in 0..2 {
            offered.extend(topic.try_publish(Curious(topic.clone())).ok());
        }
        drop(latest);
        let _ = done.send(offered);
    });

    let offered = finished.recv_timeout(Duration::from_secs(30));

    assert_eq!(offered, Ok(vec![0, 2, 2]));
}

#[test]
fn a_key_that_cannot_be_compared_fails_its_publisher_only() {
    #[derive(PartialEq, Eq)]
    struct Bad;
    impl std::hash::Hash for Bad {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
            panic!("no hash");
        }
    }
    let topic = topic();
    let mut conflated = topic.subscribe(Backlog::conflate_by(2, |_: &u32| Bad));
    let mut other = topic.subscribe(Backlog::wait(2));

    let broken = std::panic::AssertUnwindSafe(|| topic.try_publish(1));
    assert!(std::panic::catch_unwind(broken).is_err());

    assert_eq!((conflated.try_recv(), other.try_recv()), (None, None));
    drop(conflated);
    assert_eq!(topic.try_publish(2).expect("open"), 1);
    assert_eq!(other.try_recv(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_handler_does_not_wait_to_publish_beyond_its_deadline() {
    let topic = topic();
    let mut slow = topic.subscribe(Backlog::wait(1));
    publish(&topic, [1]);
    let (told, result) = oneshot::channel();
    let to = topic.clone();
    let runner = module(Runner).spawn();
    let dispatcher = runner.dispatcher();
    let asked = dispatcher.request(job(async move {
        let _ = told.send(to.publish(2).await.expect_err("no room in time"));
        Ok(0)
    }));

    let timed_out = within(asked.timeout(Duration::from_secs(1))).await;

    assert!(timed_out.is_err());
    let refused = within(result).await.expect("told");
    let stage = Stage::NotAdmitted;
    assert_eq!(
        (refused.message, refused.reason),
        (2, SparkChannelError::TimedOut { stage })
    );
    assert_eq!(topic.stats().waiting, 0);
    assert_eq!(received(&mut slow), [1]);
}

#[tokio::test]
async fn a_subscription_is_a_stream_that_can_be_attached_to_a_module() {
    let gate = Gate::opened();
    let gated = module(gate.module()).spawn();
    let topic = topic();
    let attached = gated.attach(topic.subscribe(Backlog::wait(8)), |event| event.to_string());
    publish(&topic, 1..=3);

    topic.close();

    assert_eq!(within(attached.wait()).await, Detached::Finished);
    within(gated.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["1", "2", "3", "stopped"]);
}

// --- modules

#[tokio::test]
async fn a_module_gets_events_as_commands_and_its_backpressure_reaches_the_publisher() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let topic = topic();
    let subscription = topic.subscribe_module(module.dispatcher(), Backlog::wait(1), |event| {
        event.to_string()
    });

    let mut published = 0;
    loop {
        let mut publishing = task::spawn(topic.publish(published));
        let mut waits = publishing.poll().is_pending();
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        if waits {
            waits = publishing.poll().is_pending();
        }
        if waits {
            break;
        }
        published += 1;
    }
    // One in the handler, one in the mailbox, one in the task's hand, one in the backlog.
    assert_eq!(published, 4);

    gate.open();
    topic.close();
    let stats = within(subscription.wait()).await;
    assert_eq!((stats.offered, stats.received), (4, 4));
    within(module.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["0", "1", "2", "3", "stopped"]);
}

#[tokio::test]
async fn a_module_that_stops_leaves_the_topic() {
    let gate = Gate::opened();
    let module = module(gate.module()).spawn();
    let topic = topic();
    let subscription = topic.subscribe_module(module.dispatcher(), Backlog::wait(1), |event| {
        event.to_string()
    });

    within(module.shutdown(Stop::Drain)).await;
    within(subscription.wait()).await;

    assert_eq!(topic.stats().subscribers, 0);
    assert_eq!(within(topic.publish(1)).await.expect("open"), 0);
}

#[tokio::test]
async fn unsubscribing_a_module_ends_its_task_though_the_mailbox_is_full() {
    let gate = Gate::closed();
    let module = module(gate.module()).capacity(1).spawn();
    let topic = topic();
    let subscription =
        topic.subscribe_module(module.dispatcher(), Backlog::drop_oldest(1), |event| {
            event.to_string()
        });
    for event in 0..4 {
        publish(&topic, [event]);
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }

    let stats = within(subscription.unsubscribe()).await;

    assert_eq!(
        (stats.offered, stats.received, topic.stats().subscribers),
        (4, 3, 0)
    );
    gate.open();
    let report = within(module.shutdown(Stop::Drain)).await;
    assert_eq!(report.stats.accounted(), 2);
}

#[tokio::test]
async fn an_event_that_makes_no_command_is_left_out() {
    let gate = Gate::opened();
    let module = module(gate.module()).spawn();
    let topic = topic();
    let subscription = topic.subscribe_module(module.dispatcher(), Backlog::wait(8), |event| {
        assert!(event != 1, "expected panic");
        event.to_string()
    });

    publish(&topic, 0..3);
    topic.close();
    within(subscription.wait()).await;
    within(module.shutdown(Stop::Drain)).await;

    assert_eq!(gate.log.lines(), ["0", "2", "stopped"]);
}

#[tokio::test]
async fn who_never_has_to_wait_for_a_topic_lets_others_run() {
    const ROUNDS: usize = 100_000;
    let counted = Arc::new(AtomicUsize::new(0));
    let count = |counted: &Arc<AtomicUsize>| counted.fetch_add(1, Ordering::Relaxed);
    let publishing = {
        let (topic, counted) = (topic(), Arc::clone(&counted));
        async move {
            for _ in 0..ROUNDS {
                assert!(topic.publish(1).await.is_ok());
                count(&counted);
            }
        }
    };
    let receiving = {
        let (topic, counted) = (topic(), Arc::clone(&counted));
        let mut subscription = topic.subscribe(Backlog::wait(1));
        async move {
            for _ in 0..ROUNDS {
                publish(&topic, [1]);
                assert!(subscription.recv().await.is_some());
                count(&counted);
            }
        }
    };

    let tasks = [tokio::spawn(publishing), tokio::spawn(receiving)];
    tokio::task::yield_now().await;

    assert!((1..ROUNDS).contains(&counted.load(Ordering::Relaxed)));
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

// --- threads

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_subscribers_see_all_publishers_in_one_order_on_several_threads() {
    const EACH: u32 = 2_000;
    let topic = topic();
    let subscribers: Vec<_> = [1, 2, 64]
        .map(|events_max| {
            let mut subscriber = topic.subscribe(Backlog::wait(events_max));
            tokio::spawn(async move {
                let mut events = Vec::new();
                while let Some(event) = subscriber.recv().await {
                    events.push(event);
                }
                events
            })
        })
        .into();
    let done = Arc::new(AtomicUsize::new(0));
    for publisher in 0..3 {
        let (topic, done) = (topic.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            for event in 0..EACH {
                let sent = topic.publish(publisher * EACH + event).await;
                assert!(sent.is_ok());
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
    }
    drop(topic);

    let mut seen = Vec::new();
    for subscriber in subscribers {
        seen.push(within(subscriber).await.expect("no panic"));
    }

    assert_eq!(done.load(Ordering::SeqCst), 3);
    assert!(seen.iter().all(|events| *events == seen[0]));
    for publisher in 0..3 {
        let own = seen[0].iter().filter(|event| **event / EACH == publisher);
        assert!(own.copied().eq(publisher * EACH..(publisher + 1) * EACH));
    }
}

fn is_send<T: Send>(_: &T) {}

#[test]
fn a_publish_can_be_sent_between_threads() {
    fn check(topic: &Topic<u32>) -> impl Future<Output = ()> {
        let publishing = async {
            let _ = topic.publish(1).await;
        };
        is_send(&publishing);
        publishing
    }
    let topic = topic();
    drop(check(&topic));
}
