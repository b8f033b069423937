//! Which replica of a pool a message goes to.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{ModuleBuilder, NativeHandler, SparkChannelCancellationTrait};

/// How a pool's messages find a replica.
pub(crate) enum Routing<M> {
    /// Whoever is free takes the next one.
    Shared,
    RoundRobin,
    LeastLoaded,
    /// By a hash of the message's key.
    ByKey(Box<dyn Fn(&M) -> u64 + Send + Sync>),
    /// Commands to all, each but one as a clone.
    Broadcast(fn(&M) -> M),
}

// === impl Routing ===

impl<M> fmt::Debug for Routing<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "Shared",
            Self::RoundRobin => "RoundRobin",
            Self::LeastLoaded => "LeastLoaded",
            Self::ByKey(_) => "ByKey(..)",
            Self::Broadcast(_) => "Broadcast",
        })
    }
}

/// How a pool chooses a replica. Of a single module, and of a pool of one replica,
/// none of these changes anything.
///
/// Without any of them the replicas share one queue: whoever is free takes the next
/// message, so no replica is idle while a message waits. With one of them each replica
/// has a queue of its own behind the mailbox, filled by the pool's task. What that
/// means is the same for all four:
///
/// * The mailbox keeps its [`capacity`](Self::capacity). Beside it, each replica holds
///   the message it handles and, waiting, its part of the same number once more
///   (rounded up). [`Stats::depth`](crate::Stats::depth) counts both.
/// * What one clone of a dispatcher sent to *one replica* is handled in the order accepted.
/// * Deadlines, abandoned requests, panics and every [`Stop`](crate::Stop) mean what
///   they mean for any pool. A replica that panics keeps its queue.
/// * A message takes one hop between tasks more.
impl<H, C> ModuleBuilder<H, C>
where
    H: NativeHandler,
    C: SparkChannelCancellationTrait + Send + 'static,
{
    /// Gives the replicas a message each in turn, leaving out those that are full.
    ///
    /// A slow replica keeps what it was given, so its messages wait while others may
    /// be idle; once it is full, the rest goes to the others.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::NativeHandler;
    /// # struct Writer;
    /// # impl NativeHandler for Writer {
    /// #     type Message = u64;
    /// #     type Response = u64;
    /// #     type Error = eyre::Report;
    /// #     async fn handle_request(&mut self, m: u64) -> eyre::Result<u64> { Ok(m) }
    /// #     async fn handle_command(&mut self, _: u64) -> eyre::Result<()> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// use spark_channel::pool;
    ///
    /// let writers = pool(4, || Writer).round_robin().spawn();
    /// assert_eq!(writers.dispatcher().request(7_u64).await?, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn round_robin(mut self) -> Self {
        self.routing = Routing::RoundRobin;
        self
    }

    /// Gives each message to the replica that has the fewest, the one it handles
    /// included; in turn among equals.
    ///
    /// Decided when the message leaves the mailbox and not changed later, so for work
    /// of uneven length the shared queue is the better choice.
    pub fn least_loaded(mut self) -> Self {
        self.routing = Routing::LeastLoaded;
        self
    }

    /// Gives messages with the same key to the same replica, which handles them in the
    /// order accepted.
    ///
    /// Which replica that is depends on the key and the number of replicas only, in
    /// every run of a program built the same way. One replica has many keys; for a
    /// module per key see [`keyed`](crate::keyed()).
    ///
    /// The queues behind the mailbox share their room here, the places of messages being
    /// handled included: a key in demand holds up the messages of other replicas only once
    /// all the room is taken. `key_of` runs
    /// on the pool's task, once per message, and should be quick. If it panics, its
    /// caller gets [`Panicked`](crate::SparkChannelError::Panicked), and the pool goes on.
    ///
    /// A handler that sends a request to its own replica waits for itself, which no
    /// dispatcher can see in a pool: give it a timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::NativeHandler;
    /// # struct Deposit { account: u32, cents: u64 }
    /// # #[derive(Default)]
    /// # struct Ledger(std::collections::HashMap<u32, u64>);
    /// # impl NativeHandler for Ledger {
    /// #     type Message = Deposit;
    /// #     type Response = u64;
    /// #     type Error = eyre::Report;
    /// #     async fn handle_request(&mut self, m: Deposit) -> eyre::Result<u64> {
    /// #         let balance = self.0.entry(m.account).or_default();
    /// #         *balance += m.cents;
    /// #         Ok(*balance)
    /// #     }
    /// #     async fn handle_command(&mut self, _: Deposit) -> eyre::Result<()> { Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// use spark_channel::pool;
    ///
    /// let ledgers = pool(4, Ledger::default).by_key(|deposit: &Deposit| deposit.account).spawn();
    /// let dispatcher = ledgers.dispatcher();
    /// dispatcher.request(Deposit { account: 9, cents: 50 }).await?;
    /// assert_eq!(dispatcher.request(Deposit { account: 9, cents: 20 }).await?, 70);
    /// # Ok(())
    /// # }
    /// ```
    pub fn by_key<K, F>(mut self, key_of: F) -> Self
    where
        K: Hash,
        F: Fn(&H::Message) -> K + Send + Sync + 'static,
    {
        self.routing = Routing::ByKey(Box::new(move |message| {
            // Its keys are fixed, unlike those of a map's hasher.
            let mut hasher = DefaultHasher::new();
            key_of(message).hash(&mut hasher);
            hasher.finish()
        }));
        self
    }

    /// Gives every replica each command; a request has one asker, so one replica
    /// answers it, each in its turn.
    ///
    /// All replicas see all commands in the same order, and a request finds every
    /// command handled that was accepted before it: replicas whose state is
    /// changed by commands only all give the same answers, until one panics and is replaced by
    /// a new one, which has seen nothing.
    ///
    /// A replica that is full holds up all of them, because it has to get every
    /// command. In [`Stats`](crate::Stats) a command counts once, as what the first
    /// replica did with it; what the others did is counted in
    /// [`copies`](crate::Stats::copies). When the pool stops, each replica gives back
    /// what it has not handled; a command still in the mailbox is given back once. If
    /// `clone` panics, no replica gets the command.
    ///
    /// To send one event to modules of different types, or to those that come and go,
    /// use a [`Topic`](crate::Topic).
    ///
    /// # Examples
    ///
    /// ```
    /// # use spark_channel::NativeHandler;
    /// # #[derive(Default)]
    /// # struct Cache(u64);
    /// # impl NativeHandler for Cache {
    /// #     type Message = u64;
    /// #     type Response = u64;
    /// #     type Error = eyre::Report;
    /// #     async fn handle_request(&mut self, _: u64) -> eyre::Result<u64> { Ok(self.0) }
    /// #     async fn handle_command(&mut self, m: u64) -> eyre::Result<()> { self.0 = m; Ok(()) }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> eyre::Result<()> {
    /// use spark_channel::pool;
    ///
    /// let caches = pool(2, Cache::default).broadcast().spawn();
    /// let dispatcher = caches.dispatcher();
    /// dispatcher.command(42_u64).await?;
    /// // Two requests, two replicas.
    /// assert_eq!(dispatcher.request(0_u64).await?, 42);
    /// assert_eq!(dispatcher.request(0_u64).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn broadcast(mut self) -> Self
    where
        H::Message: Clone,
    {
        self.routing = Routing::Broadcast(H::Message::clone);
        self
    }
}
