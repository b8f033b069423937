//! The classes of messages that `#[module]` reads from its attributes.

#![cfg(feature = "macros")]

use spark_channel::{
    Child, Class, ClassStats, Priority, SparkChannelError, Stop, Strategy, Supervisor, module, pool,
};

use crate::support::{Gate, queued, reason, within};

mod support;

const BULK: Class = Class::new("bulk").priority(Priority::Low).capacity(8);

/// Writes down what it handles, once its gate lets it.
struct Exchange(Gate);

#[module]
impl Exchange {
    #[command]
    async fn open(&mut self) -> eyre::Result<()> {
        self.0.wait().await
    }

    #[command(priority = "control", capacity = 1, overflow = "reject")]
    async fn halt(&mut self) {
        self.0.log.push("halt");
    }

    #[command(priority = "high", capacity = 2, overflow = "drop_oldest", conflate = symbol)]
    async fn quote(&mut self, symbol: &'static str, cents: u64) {
        self.0.log.push(format!("quote {symbol} {cents}"));
    }

    #[command(conflate)]
    async fn tick(&mut self, number: u64) {
        self.0.log.push(format!("tick {number}"));
    }

    #[command(class = BULK, conflate = _day)]
    async fn settle(&mut self, _day: u32) {
        self.0.log.push("settle");
    }

    #[command(class = self::BULK)]
    async fn archive(&mut self) {
        self.0.log.push("archive");
    }

    #[request(
        priority = "normal",
        capacity = 1,
        overflow = "drop_newest",
        timeout = "1s"
    )]
    async fn price(&self, symbol: &'static str) -> String {
        self.0.log.push(format!("price {symbol}"));
        symbol.to_owned()
    }

    /// Of no class.
    #[command]
    async fn order(&mut self, number: u64) {
        self.0.log.push(format!("order {number}"));
    }
}

fn class<'a>(stats: &'a [ClassStats], name: &str) -> &'a ClassStats {
    let mut stats = stats.iter();
    stats.find(|stats| stats.name == name).expect("was seen")
}

/// Sends the module, which is busy, one message too many of each kind.
async fn fill(exchange: &ExchangeClient) {
    for day in [1, 2, 1] {
        exchange.settle(day).await.expect("accepted");
    }
    exchange.archive().await.expect("accepted");
    for number in [1, 2] {
        exchange.order(number).await.expect("accepted");
        exchange.tick(number).await.expect("accepted");
    }
    for (symbol, cents) in [("A", 1), ("B", 2), ("A", 3), ("C", 4)] {
        exchange.quote(symbol, cents).await.expect("accepted");
    }
    exchange.halt().await.expect("accepted");
    let refused = exchange.halt().await.expect_err("full");
    assert_eq!(refused.reason, SparkChannelError::Full);
}

const IN_ORDER: [&str; 9] = [
    "halt",
    "quote B 2",
    "quote C 4",
    "order 1",
    "tick 2",
    "order 2",
    "settle",
    "settle",
    "archive",
];

#[tokio::test(start_paused = true)]
async fn messages_are_sorted_as_their_attributes_say() {
    let gate = Gate::closed();
    let handle = module(Exchange(gate.clone())).spawn();
    let exchange = ExchangeClient::from(handle.dispatcher());
    within(exchange.open()).await.expect("accepted");
    gate.entered().await;

    within(fill(&exchange)).await;
    let asked = queued(exchange.price("A"));
    let overflowed = reason(within(exchange.price("B")).await);

    assert_eq!(overflowed, SparkChannelError::Overflowed);
    let stats = handle.class_stats();
    let quotes = class(&stats, "quote");
    assert_eq!((quotes.priority, quotes.capacity), (Priority::High, 2));
    assert_eq!((quotes.conflated, quotes.dropped), (1, 1));
    assert_eq!(class(&stats, "tick").conflated, 1);
    assert_eq!(class(&stats, "bulk").conflated, 1);
    assert_eq!(class(&stats, "price").dropped, 1);
    gate.open();
    assert_eq!(within(asked).await.expect("answered"), "A");
    let stats = within(handle.shutdown(Stop::Drain)).await.stats;
    let mut lines = gate.log.lines();
    lines.retain(|line| line != "price A");
    assert_eq!(lines, IN_ORDER);
    assert_eq!((stats.dropped, stats.conflated), (2, 3));
    assert_eq!((stats.rejected, stats.accounted()), (1, 16));
}

struct Ledger(Gate);

#[module]
impl Ledger {
    #[command]
    async fn open(&mut self) -> eyre::Result<()> {
        self.0.wait().await
    }

    #[command(class = BULK, conflate = item)]
    async fn count(&mut self, item: u32) {
        self.0.log.push(format!("count {item}"));
    }

    #[command(class = BULK, conflate = item)]
    async fn price(&mut self, item: u32) {
        self.0.log.push(format!("price {item}"));
    }
}

#[tokio::test(start_paused = true)]
async fn commands_of_one_class_and_with_equal_keys_replace_only_their_own_kind() {
    let gate = Gate::closed();
    let handle = module(Ledger(gate.clone())).spawn();
    let ledger = LedgerClient::from(handle.dispatcher());
    within(ledger.open()).await.expect("accepted");
    gate.entered().await;

    within(ledger.count(1)).await.expect("accepted");
    within(ledger.price(1)).await.expect("accepted");
    within(ledger.count(1)).await.expect("accepted");
    gate.open();

    let stats = within(handle.shutdown(Stop::Drain)).await.stats;
    assert_eq!(gate.log.lines(), ["count 1", "price 1"]);
    assert_eq!(stats.conflated, 1);
}

#[tokio::test(start_paused = true)]
async fn so_are_those_of_pools_and_supervised_children() {
    for supervised in [false, true] {
        let gate = Gate::closed();
        let make = {
            let gate = gate.clone();
            move || Exchange(gate.clone())
        };
        let mut tree = Supervisor::new("tree", Strategy::OneForOne);
        let (dispatcher, pool) = if supervised {
            (tree.child(Child::new(make)), None)
        } else {
            let pool = pool(1, make).spawn();
            (pool.dispatcher(), Some(pool))
        };
        let tree = tree.spawn();
        let exchange = ExchangeClient::from(dispatcher);
        within(exchange.open()).await.expect("accepted");
        gate.entered().await;

        within(fill(&exchange)).await;

        gate.open();
        if let Some(pool) = pool {
            within(pool.shutdown(Stop::Drain)).await;
        }
        within(tree.shutdown(Stop::Drain)).await;
        assert_eq!(gate.log.lines(), IN_ORDER, "supervised: {supervised}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_builder_may_sort_them_in_another_way() {
    let gate = Gate::closed();
    let handle = module(Exchange(gate.clone()))
        .classify(|_| Class::DEFAULT)
        .spawn();
    let exchange = ExchangeClient::from(handle.dispatcher());
    within(exchange.open()).await.expect("accepted");
    gate.entered().await;
    for number in [1, 2] {
        within(exchange.tick(number)).await.expect("accepted");
    }
    within(exchange.halt()).await.expect("accepted");

    gate.open();
    assert_eq!(handle.class_stats().len(), 1);
    within(handle.shutdown(Stop::Drain)).await;
    assert_eq!(gate.log.lines(), ["tick 1", "tick 2", "halt"]);
}
