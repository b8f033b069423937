//! `#[module(reader_writer)]`: requests of `&self` run side by side.

#![cfg(all(feature = "macros", feature = "test-util"))]

use std::{sync::Arc, time::Duration};

use spark_channel::{
    ReplyStreamSender, SparkChannelError, Stage, Stop, module, reader_writer, spawn_module,
};
use tokio::sync::Barrier;

use crate::support::Log;

mod support;

struct Prices {
    tea: u64,
    meet: Arc<Barrier>,
    log: Log,
}

#[module(reader_writer, mock)]
impl Prices {
    /// Answers once another read runs at the same time.
    #[request]
    async fn met(&self) -> u64 {
        self.meet.wait().await;
        self.tea
    }

    #[request]
    async fn set(&mut self, price: u64) -> Result<u64, SparkChannelError> {
        Ok(std::mem::replace(&mut self.tea, price))
    }

    #[request(stream)]
    async fn all(&self, prices: &ReplyStreamSender<u64, SparkChannelError>) {
        let _ = prices.send(self.met().await).await;
    }

    #[command(conflate)]
    async fn raise(&mut self) {
        self.tea += 1;
    }

    #[stopped]
    async fn close(&self) {
        self.log.push("closed");
    }
}

fn prices(log: &Log) -> Prices {
    Prices {
        tea: 3,
        meet: Arc::new(Barrier::new(2)),
        log: log.clone(),
    }
}

#[spark_channel::testing::test]
async fn reads_run_side_by_side_and_see_whole_writes() {
    let log = Log::default();
    let handle = reader_writer(prices(&log)).spawn();
    let client = PricesClient::from(handle.dispatcher());

    let both = async { tokio::join!(client.met(), client.met()) };
    assert_eq!(both.await, (Ok(3), Ok(3)));

    let mut all = client.all();
    let both = async { tokio::join!(all.next(), client.met()) };
    assert_eq!(both.await, (Some(Ok(3)), Ok(3)));

    assert_eq!(client.set(7).await, Ok(3));
    client.raise().await.expect("accepted");
    let both = async { tokio::join!(client.met(), client.met()) };
    assert_eq!(both.await, (Ok(8), Ok(8)));

    handle.shutdown(Stop::Drain).await;
    assert_eq!(log.lines(), ["closed"]);
}

#[spark_channel::testing::test]
async fn its_messages_are_sorted_into_classes() {
    let handle = reader_writer(prices(&Log::default())).spawn();
    let client = PricesClient::from(handle.dispatcher());

    client.raise().await.expect("accepted");
    client
        .raise()
        .await
        .expect("accepted, in the place of the first");

    let both = async { tokio::join!(client.met(), client.met()) };
    assert_eq!(both.await, (Ok(4), Ok(4)));
}

#[spark_channel::testing::test(interrupted = 1)]
async fn started_as_any_module_it_handles_one_message_at_a_time() {
    let handle = spawn_module(prices(&Log::default()));
    let client = PricesClient::from(handle.dispatcher());

    assert_eq!(client.set(4).await, Ok(3));
    let _alone = support::queued(client.met());
    let behind = client.met().timeout(Duration::from_secs(1));

    let stage = Stage::Queued;
    assert_eq!(behind.await, Err(SparkChannelError::TimedOut { stage }));
    handle.shutdown(Stop::Now).await;
}

#[spark_channel::testing::test]
async fn its_messages_can_be_asked_of_the_mock() {
    let mock = PricesMock::new();
    mock.on_met(|| Ok(1));
    assert_eq!(PricesApi::met(&mock).await, Ok(1));
    assert_eq!(mock.met_calls(), [()]);
}
