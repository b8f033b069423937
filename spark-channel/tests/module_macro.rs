//! What `#[module]` makes of an impl block.

#![cfg(all(feature = "macros", feature = "test-util"))]

use std::{
    collections::BTreeMap,
    fmt::Display,
    num::NonZeroU64,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use spark_channel::{
    NativeHandler, ReplyStream, ReplyStreamSender, SparkChannelError, Stage, Stop, module,
    spawn_module,
};
use tokio::time::Instant;

use crate::support::Log;

mod support;

/// What a stock says no with.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum StockError {
    /// There is not enough of it.
    #[error("sold out")]
    SoldOut,
    /// The call was not answered.
    #[error(transparent)]
    Channel(#[from] SparkChannelError),
    /// A text is none.
    #[error("not a number")]
    NotANumber(#[from] std::num::ParseIntError),
}

/// How many there are of what.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "nobody prints it")]
pub struct Stock {
    items: BTreeMap<String, u64>,
    log: Log,
}

#[module(pub, mock)]
impl Stock {
    /// How many there are of an item.
    #[request]
    async fn count(&self, item: String) -> u64 {
        self.find(&item)
    }

    /// Takes some of an item.
    #[request(timeout = "1s")]
    async fn reserve(&mut self, item: String, wanted: NonZeroU64) -> Result<u64, StockError> {
        let left = self.find(&item).checked_sub(wanted.get());
        let left = left.ok_or(StockError::SoldOut)?;
        self.items.insert(item, left);
        Ok(left)
    }

    /// Takes a number as text: another error type than the module's.
    #[request]
    async fn parse(&self, text: String) -> Result<u64, std::num::ParseIntError> {
        text.parse()
    }

    #[request(timeout = "500ms")]
    async fn hang(&mut self) {
        std::future::pending::<()>().await;
    }

    /// All items.
    #[request(stream, buffer = 2)]
    async fn items(
        &self,
        prefix: String,
        items: &ReplyStreamSender<String, StockError>,
    ) -> Result<(), StockError> {
        for item in self.items.keys().filter(|item| item.starts_with(&prefix)) {
            if items.send(item.clone()).await.is_err() {
                break;
            }
        }
        if prefix == "fail" {
            Err(StockError::SoldOut)
        } else {
            Ok(())
        }
    }

    /// The counts, as a stream of the module's own making.
    #[request]
    async fn counts(&self) -> ReplyStream<u64, StockError> {
        ReplyStream::from_iter(self.items.values().copied().collect::<Vec<_>>())
    }

    /// Adds some of an item.
    #[command]
    async fn restock(&mut self, item: String, more: u64) {
        *self.items.entry(item).or_default() += more;
    }

    /// Does nothing well.
    #[command]
    async fn spoil(&mut self, _reason: &'static str) -> Result<(), StockError> {
        Err(StockError::SoldOut)
    }

    #[started]
    async fn open(&mut self) -> Result<(), StockError> {
        self.log.push("open");
        Ok(())
    }

    #[stopped]
    async fn close(&mut self) {
        self.log.push("close");
    }

    #[undelivered]
    async fn give_back(&mut self, message: StockMessage) {
        self.log.push(format!("undelivered {message:?}"));
    }

    #[command_failed]
    fn note(&mut self, error: StockError) {
        self.log.push(format!("failed: {error}"));
    }

    fn find(&self, item: &str) -> u64 {
        self.items.get(item).copied().unwrap_or(0)
    }
}

fn two() -> NonZeroU64 {
    NonZeroU64::new(2).expect("not zero")
}

async fn all<T>(mut stream: ReplyStream<T, StockError>) -> Result<Vec<T>, StockError> {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item?);
    }
    Ok(items)
}

// --- the module and its client

#[spark_channel::testing::test]
async fn the_client_has_a_method_for_each_message() {
    let handle = module(Stock::default()).spawn();
    let stock = StockClient::from(handle.dispatcher());

    stock.restock("tea".into(), 5).await.expect("accepted");

    assert_eq!(stock.reserve("tea".into(), two()).await, Ok(3));
    assert_eq!(stock.clone().count("tea".into()).await, Ok(3));
    let sold_out = stock.reserve("mate".into(), two()).await;
    assert_eq!(sold_out, Err(StockError::SoldOut));
    let report = handle.shutdown(Stop::Drain).await;
    assert_eq!((report.stats.handled, report.stats.failed), (4, 1));
}

#[spark_channel::testing::test]
async fn a_methods_error_becomes_the_modules() {
    let stock = StockClient::from(spawn_module(Stock::default()).dispatcher());
    assert_eq!(stock.parse("7".into()).await, Ok(7));
    let error = stock.parse("seven".into()).await;
    assert!(matches!(error, Err(StockError::NotANumber(_))));
}

#[spark_channel::testing::test(interrupted = 1)]
async fn a_messages_timeout_holds_unless_the_call_has_its_own() {
    let handle = spawn_module(Stock::default());
    let stock = StockClient::from(handle.dispatcher());
    let timed_out = SparkChannelError::TimedOut {
        stage: Stage::Running,
    };

    let start = Instant::now();
    assert_eq!(stock.hang().await, Err(timed_out.into()));
    assert_eq!(start.elapsed().as_millis(), 500);

    let start = Instant::now();
    let own = stock.hang().timeout(Duration::from_millis(200));
    assert!(own.await.is_err());
    assert_eq!(start.elapsed().as_millis(), 200);
    handle.shutdown(Stop::Now).await;
}

#[spark_channel::testing::test]
async fn streams_end_when_their_method_does() {
    let stock = StockClient::from(spawn_module(Stock::default()).dispatcher());
    for (item, more) in [("tea", 1), ("mate", 2), ("toast", 3), ("tart", 4)] {
        stock.restock(item.into(), more).await.expect("accepted");
    }

    let items = all(stock.items("t".into())).await;
    assert_eq!(items, Ok(vec!["tart".into(), "tea".into(), "toast".into()]));
    assert_eq!(
        all(stock.items("fail".into())).await,
        Err(StockError::SoldOut)
    );

    let counts = stock.counts().await.expect("answered");
    assert_eq!(all(counts).await, Ok(vec![2, 4, 1, 3]));
}

#[spark_channel::testing::test(dead_letters = 1, interrupted = 1)]
async fn the_hooks_are_the_handlers() {
    let log = Log::default();
    let stock = Stock {
        log: log.clone(),
        ..Stock::default()
    };
    let handle = module(stock).spawn();
    let client = StockClient::from(handle.dispatcher());

    client.spoil("it is old").await.expect("accepted");
    assert_eq!(client.count("tea".into()).await, Ok(0));
    let _hanging = support::queued(client.hang());
    client.restock("tea".into(), 1).await.expect("accepted");
    handle.shutdown(Stop::Now).await;

    let lines = ["open", "failed: sold out", "undelivered restock", "close"];
    assert_eq!(log.lines(), lines);
}

#[spark_channel::testing::test]
async fn the_enums_can_be_used_as_such() {
    let stock = spawn_module(Stock::default()).dispatcher();

    // A command can be asked, which waits until it is done.
    let restock = StockMessage::Restock {
        item: "tea".into(),
        more: 2,
    };
    assert_eq!(restock.name(), "restock");
    let done = stock.request(restock).await.expect("handled");
    assert!(matches!(done, StockResponse::Restock));

    // A request can be sent, which drops its reply.
    let reserve = StockMessage::Reserve {
        item: "tea".into(),
        wanted: two(),
    };
    stock.command(reserve).await.expect("accepted");

    let count = StockMessage::Count { item: "tea".into() };
    let counted = stock.request(count).await.expect("answered");
    assert!(matches!(counted, StockResponse::Count(0)), "{counted:?}");
}

#[spark_channel::testing::test]
async fn a_command_that_is_refused_is_given_back() {
    let handle = spawn_module(Stock::default());
    let stock = StockClient::from(handle.dispatcher());
    handle.shutdown(Stop::Drain).await;

    let refused = stock.restock("tea".into(), 5).await.expect_err("stopped");

    assert_eq!(refused.reason, SparkChannelError::Closed);
    let message = refused.into_inner();
    assert!(matches!(message, StockMessage::Restock { item, more: 5 } if item == "tea"));
}

// --- the trait and the mock

/// Written against the trait: does not know what it asks.
async fn sell(stock: &impl StockApi, item: &str) -> Result<u64, StockError> {
    if stock.count(item.into()).await? < 2 {
        let refill = stock.restock(item.into(), 10).await;
        refill.map_err(|refused| refused.reason)?;
    }
    stock.reserve(item.into(), two()).await
}

#[spark_channel::testing::test]
async fn code_written_against_the_trait_takes_the_client() {
    let stock = StockClient::from(spawn_module(Stock::default()).dispatcher());
    assert_eq!(sell(&stock, "tea").await, Ok(8));
    assert_eq!(sell(&stock, "tea").await, Ok(6));
}

#[spark_channel::testing::test]
async fn a_mock_answers_as_programmed_and_records_its_calls() {
    let stock = StockMock::new();
    let mut left = 4;
    stock.on_count(|_| Ok(1)).on_reserve(move |item, wanted| {
        left -= wanted.get();
        if item == "tea" {
            Ok(left)
        } else {
            Err(StockError::SoldOut)
        }
    });

    assert_eq!(sell(&stock, "tea").await, Ok(2));
    assert_eq!(sell(&stock.clone(), "mate").await, Err(StockError::SoldOut));

    assert_eq!(stock.count_calls(), ["tea", "mate"]);
    assert_eq!(
        stock.restock_calls(),
        [("tea".to_owned(), 10), ("mate".to_owned(), 10)]
    );
    assert_eq!(stock.reserve_calls().len(), 2);
    assert!(stock.hang_calls().is_empty());
}

#[spark_channel::testing::test]
async fn a_mocked_command_gives_its_message_back_when_told_to() {
    let stock = StockMock::new();
    stock.on_restock(|_, _| Err(SparkChannelError::Full));

    let refused = stock.restock("tea".into(), 10).await.expect_err("told to");

    assert_eq!(refused.reason, SparkChannelError::Full);
    assert!(matches!(
        refused.into_inner(),
        StockMessage::Restock { more: 10, .. }
    ));
}

#[spark_channel::testing::test]
async fn a_mocked_stream_is_what_its_answer_is() {
    let stock = StockMock::new();
    stock.on_items(|prefix| ReplyStream::from_iter([prefix, "end".into()]));
    let items = all(stock.items("tea".into())).await;
    assert_eq!(items, Ok(vec!["tea".into(), "end".into()]));
}

#[spark_channel::testing::test]
#[should_panic(expected = "give it one with `on_count`")]
async fn a_mock_without_an_answer_panics_with_what_to_do() {
    let _ = StockMock::new().count("tea".into()).await;
}

#[spark_channel::testing::test]
async fn an_answer_may_use_the_mock_it_belongs_to() {
    let stock = StockMock::new();
    let same = stock.clone();
    stock.on_count(move |_| {
        same.on_count(|_| Ok(2));
        Ok(1)
    });
    assert_eq!(stock.count("tea".into()).await, Ok(1));
    assert_eq!(stock.count("tea".into()).await, Ok(2));
}

#[test]
fn an_answer_that_panics_is_kept() {
    let stock = StockMock::new();
    stock.on_count(|item| {
        assert!(item != "rum", "no rum");
        Ok(1)
    });
    let count = |item: &str| tokio_test::block_on(stock.count(item.into()));

    assert!(catch_unwind(AssertUnwindSafe(|| count("rum"))).is_err());

    assert_eq!(count("tea"), Ok(1));
}

#[test]
fn threads_that_share_a_mock_are_all_answered_as_programmed() {
    const CALLS: u64 = 2_000;
    let stock = StockMock::new();
    let mut count = 0;
    stock
        .on_count(move |_| {
            std::thread::yield_now();
            count += 1;
            Ok(count)
        })
        .on_restock(|_, _| Err(SparkChannelError::Full));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let stock = stock.clone();
            std::thread::spawn(move || {
                for _ in 0..CALLS {
                    let asked = tokio_test::block_on(stock.count("tea".into()));
                    assert!(asked.is_ok());
                    let told = tokio_test::block_on(stock.restock("tea".into(), 1));
                    assert!(told.is_err());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every call is answered");
    }
    assert_eq!(stock.count_calls().len() as u64, 2 * CALLS);
    let last = tokio_test::block_on(stock.count("tea".into()));
    assert_eq!(last, Ok(2 * CALLS + 1));
}

// --- generics, names, visibility

mod shelf {
    use super::{Display, module};

    pub(super) struct Shelf<T, const N: usize, Unused> {
        pub(super) things: Vec<T>,
        pub(super) unused: Unused,
    }

    #[module(pub(super), message = Ask, response = Answer, client = ShelfHandle, api = Shelving, mock = FakeShelf)]
    impl<T, const N: usize, Unused> Shelf<T, N, Unused>
    where
        T: Display + Clone + Send + Sync + 'static,
        Unused: Display + Send + Sync + 'static,
    {
        #[request]
        async fn put(&mut self, thing: T) -> Result<usize, eyre::Report> {
            eyre::ensure!(self.things.len() < N, "no room beside {}", self.unused);
            self.things.push(thing);
            Ok(self.things.len())
        }

        #[request]
        async fn r#type(&self, r#in: usize) -> Option<T> {
            self.things.get(r#in).cloned()
        }

        #[cfg(not(feature = "macros"))]
        #[command]
        async fn absent(&mut self) {}
    }
}

#[spark_channel::testing::test]
async fn generics_names_and_visibility_are_respected() {
    use shelf::{Ask, FakeShelf, Shelf, ShelfHandle, Shelving};
    let things = Vec::new();
    let unused = "nothing";
    let dispatcher = spawn_module(Shelf::<String, 1, _> { things, unused }).dispatcher();
    let shelf: ShelfHandle<String> = dispatcher.into();

    assert_eq!(shelf.put("cup".into()).await.expect("there is room"), 1);
    let full = shelf.put("jug".into()).await.expect_err("there is none");
    assert_eq!(full.to_string(), "no room beside nothing");
    assert_eq!(
        shelf.r#type(0).await.expect("answered").as_deref(),
        Some("cup")
    );
    assert_eq!(Ask::Type::<u8> { r#in: 1 }.name(), "type");

    let fake = FakeShelf::<u8>::new();
    fake.on_put(|thing| Ok(thing.into()));
    assert_eq!(Shelving::put(&fake, 7).await.expect("programmed"), 7);
}

/// A module of one message, which has no other to be confused with.
#[derive(Debug)]
pub struct Single;

#[module]
impl Single {
    /// Its visibility is that of what is defined.
    #[request]
    pub async fn answer(&self) -> u64 {
        42
    }
}

#[spark_channel::testing::test]
async fn a_module_may_have_a_single_message() {
    let single = SingleClient::from(spawn_module(Single).dispatcher());
    assert_eq!(single.answer().await.expect("answered"), 42);
}

#[test]
fn the_message_is_no_larger_than_one_written_by_hand() {
    enum ByHand {
        _Count { item: String },
        _Restock { item: String, more: u64 },
    }
    assert_eq!(size_of::<StockMessage>(), size_of::<ByHand>() + 8);
    assert_eq!(size_of::<<Single as NativeHandler>::Message>(), 0);
}
