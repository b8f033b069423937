use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use proptest::prelude::*;
use tokio_test::task::{Spawn, spawn};

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Come,
    /// Polls the n-th of those who wait.
    Poll(usize),
    /// The n-th of those who wait leaves.
    Leave(usize),
    /// The n-th permit is given back.
    GiveBack(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Come),
        2 => (0_usize..8).prop_map(Step::Poll),
        1 => (0_usize..8).prop_map(Step::Leave),
        2 => (0_usize..8).prop_map(Step::GiveBack),
    ]
}

/// What is true of [`Permits`], without tasks: names in place of futures.
#[derive(Default)]
struct Model {
    held: Vec<usize>,
    /// Given a permit, and not polled since.
    given: Vec<usize>,
    queue: VecDeque<usize>,
}

impl Model {
    fn taken(&self) -> usize {
        self.held.len() + self.given.len()
    }

    /// A permit is free: it goes to whoever came first.
    fn pass_on(&mut self) {
        self.given.extend(self.queue.pop_front());
    }
}

/// Polls those who were woken until nobody is, as a runtime would.
fn settle(waiting: &mut Vec<(usize, Spawn<Acquire>)>, held: &mut Vec<(usize, Permit)>) {
    while let Some(woken) = waiting.iter().position(|(_, acquire)| acquire.is_woken()) {
        let (name, mut acquire) = waiting.remove(woken);
        match acquire.poll() {
            Poll::Ready(Ok(permit)) => held.push((name, permit)),
            other => panic!("{name} was woken for {:?}", other.map(|_| ())),
        }
    }
}

proptest! {
    #[test]
    fn permits_do_what_a_counter_and_a_queue_do(
        limit in 1_usize..4,
        queue in 0_usize..4,
        steps in proptest::collection::vec(step(), 0..128),
    ) {
        let permits = Permits::new(limit, queue);
        let mut model = Model::default();
        let mut held: Vec<(usize, Permit)> = Vec::new();
        let mut waiting: Vec<(usize, Spawn<Acquire>)> = Vec::new();
        for (name, step) in steps.into_iter().enumerate() {
            match step {
                Step::Come => {
                    let mut acquire = spawn(permits.acquire());
                    let is_full = permits.is_full();
                    match acquire.poll() {
                        Poll::Ready(Ok(permit)) => {
                            prop_assert!(model.taken() < limit);
                            model.held.push(name);
                            held.push((name, permit));
                        }
                        Poll::Pending => {
                            prop_assert_eq!(model.taken(), limit);
                            prop_assert!(model.queue.len() < queue && !is_full);
                            model.queue.push_back(name);
                            waiting.push((name, acquire));
                        }
                        Poll::Ready(Err(Full)) => {
                            prop_assert_eq!((model.taken(), model.queue.len()), (limit, queue));
                            prop_assert!(is_full);
                        }
                    }
                }
                Step::Poll(n) if n < waiting.len() => {
                    let (name, mut acquire) = waiting.remove(n);
                    match acquire.poll() {
                        Poll::Ready(Ok(permit)) => {
                            let given = model.given.iter().position(|&given| given == name);
                            prop_assert!(given.is_some(), "{} before its turn", name);
                            model.given.retain(|&given| given != name);
                            model.held.push(name);
                            held.push((name, permit));
                        }
                        Poll::Pending => {
                            prop_assert!(model.queue.contains(&name));
                            waiting.insert(n, (name, acquire));
                        }
                        Poll::Ready(Err(Full)) => prop_assert!(false, "turned away while waiting"),
                    }
                }
                Step::Leave(n) if n < waiting.len() => {
                    let (name, acquire) = waiting.remove(n);
                    drop(acquire);
                    model.queue.retain(|&queued| queued != name);
                    if model.given.contains(&name) {
                        model.given.retain(|&given| given != name);
                        model.pass_on();
                    }
                }
                Step::GiveBack(n) if n < held.len() => {
                    let (name, permit) = held.remove(n);
                    drop(permit);
                    model.held.retain(|&holder| holder != name);
                    model.pass_on();
                }
                _ => {}
            }
            let state = permits.lock();
            prop_assert!(state.held <= limit && state.waiting.len() <= queue);
            prop_assert_eq!((state.held, state.waiting.len()), (model.taken(), model.queue.len()));
            drop(state);
            // Whoever was given a permit has been woken for it.
            for (name, acquire) in &waiting {
                prop_assert_eq!(acquire.is_woken(), model.given.contains(name));
            }
        }
        // No wake-up is lost: with every permit given back in turn, everybody gets one.
        settle(&mut waiting, &mut held);
        while !held.is_empty() {
            held.remove(0);
            settle(&mut waiting, &mut held);
        }
        prop_assert!(waiting.is_empty());
        let state = permits.lock();
        prop_assert_eq!((state.held, state.waiting.len()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_contention_the_limit_holds_and_everybody_gets_a_turn() {
    let permits = Permits::new(3, 64);
    let running = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (permits, running) = (Arc::clone(&permits), Arc::clone(&running));
            tokio::spawn(async move {
                for turn in 0..200 {
                    let permit = permits.acquire().await.expect("room to wait");
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                    if turn % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            })
        })
        .collect();
    for task in tasks {
        let ended = tokio::time::timeout(Duration::from_secs(20), task).await;
        ended.expect("in time").expect("no panic");
    }
    assert_eq!(permits.lock().held, 0);
}
