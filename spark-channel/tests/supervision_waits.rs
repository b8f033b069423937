//! Siblings that are restarted together and wait for each other at that moment.

use std::time::Duration;

use spark_channel::{
    Backoff, Child, NativeHandler, SparkChannelError, SparkGenericModuleDispatcher, Stop, Strategy,
    Supervisor,
};
use tokio::time::Instant;

type Dispatcher = SparkGenericModuleDispatcher<u32, u32>;

/// Panics when it is to divide by zero.
struct Stock;

/// Asks the other; after a panic, which fails it, once more.
struct Asks(Dispatcher);

#[tokio::test(start_paused = true)]
async fn a_sibling_that_waits_for_the_failed_one_does_not_hold_up_the_restart() {
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let mut shop = Supervisor::new("shop", strategy).backoff(Backoff::none());
        let stock = shop.child(Child::new(|| Stock));
        let orders = shop.child(Child::new(move || Asks(stock.clone())));
        let shop = shop.spawn();
        let before = Instant::now();

        let error = orders.request(0_u32).await.expect_err("it was cut");

        let error = error.downcast_ref::<SparkChannelError>();
        assert!(
            matches!(error, Some(SparkChannelError::Cancelled)),
            "{strategy:?}: {error:?}"
        );
        assert_eq!(orders.request(5_u32).await.expect("both are back"), 2);
        assert_eq!(before.elapsed(), Duration::ZERO, "{strategy:?}");
        shop.shutdown(Stop::Drain).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_through_somebody_else_does_not_either() {
    let mut shop = Supervisor::new("shop", Strategy::OneForAll).backoff(Backoff::none());
    let stock = shop.child(Child::new(|| Stock));
    let between = spark_channel::spawn_module(Asks(stock.clone()));
    let outside = between.dispatcher();
    let orders = shop.child(Child::new(move || Asks(outside.clone())));
    let shop = shop.spawn();
    let before = Instant::now();

    let answer = orders.request(0_u32).await;

    // Whichever of the two is noticed first.
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(orders.request(5_u32).await.expect("both are back"), 2);
    assert_eq!(before.elapsed(), Duration::ZERO);
    shop.shutdown(Stop::Drain).await;
    between.shutdown(Stop::Drain).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_restart_of_several_it_gets_its_second_answer() {
    let mut shop = Supervisor::new("shop", Strategy::OneForOne).backoff(Backoff::none());
    let stock = shop.child(Child::new(|| Stock));
    let orders = shop.child(Child::new(move || Asks(stock.clone())));
    let shop = shop.spawn();

    let answer = orders.request(0_u32).await;
    assert_eq!(answer.expect("asked again"), 10);
    shop.shutdown(Stop::Drain).await;
}

// === impl Stock ===

impl NativeHandler for Stock {
    type Message = u32;
    type Response = u32;
    type Error = eyre::Report;

    async fn handle_request(&mut self, by: u32) -> eyre::Result<u32> {
        Ok(10 / by)
    }

    async fn handle_command(&mut self, _: u32) -> eyre::Result<()> {
        Ok(())
    }
}

// === impl Asks ===

impl NativeHandler for Asks {
    type Message = u32;
    type Response = u32;
    type Error = eyre::Report;

    async fn handle_request(&mut self, by: u32) -> eyre::Result<u32> {
        let answer = self.0.request(by).await;
        match answer {
            Err(_) => self.0.request(1_u32).timeout(Duration::from_secs(60)).await,
            answer => answer,
        }
    }

    async fn handle_command(&mut self, _: u32) -> eyre::Result<()> {
        Ok(())
    }
}
