//! What a supervisor and the run loops of its child say to each other.
//!
//! Each replica of the child has a *post*: one order for it, one piece of news from
//! it. Nothing queues; what is newer replaces what is older. The invariants:
//!
//! 1. A post's order and news change under its lock only.
//! 2. [`Order::Start`] forgets the news before it: whoever gives it knows that the
//!    replica is down, so news that is still there is of the past.
//! 3. A replica takes [`Order::Start`] once. It does not start again unless told again.
//! 4. `recalled` says whether the order is [`Order::Leave`], for those who look often.
//!
//! Whoever gives an order wakes the replica afterwards; news ring the supervisor's bell.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// Between one supervisor and one of its children.
pub(crate) struct Oversight {
    posts: Box<[Post]>,
    /// Whether a running handler is to be dropped, for its time to leave is over.
    cut: AtomicBool,
    restart: Restart,
    bell: Arc<Notify>,
}

/// When a supervisor restarts a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Always: after a panic, a failed start, and also after a
    /// [`Shutdown`](crate::SparkGenericModuleMessage::Shutdown) message, which stops
    /// the handler and has the next one started. The token is cancelled in between.
    #[default]
    Permanent,
    /// After a panic or a failed start. A shutdown message ends the child.
    Transient,
    /// Never: a panic, a failed start, a shutdown message and the restart of its
    /// siblings end the child.
    Temporary,
}

/// What a replica is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on as it is.
    Stay,
    /// Make a handler and serve.
    Start,
    /// Stop the handler between two messages, and wait.
    Leave,
}

/// What has become of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Its handler has started.
    Up,
    /// It has no handler, and waits.
    Down(Exit),
}

/// Why a replica has no handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was told to leave.
    Recalled,
    Panicked,
    StartFailed,
    ShutdownMessage,
    /// It is a supervisor that could not keep its children alive.
    GaveUp,
}

struct Post {
    talk: Mutex<Talk>,
    recalled: AtomicBool,
    up: AtomicBool,
}

struct Talk {
    order: Order,
    news: Option<News>,
}

// === impl Oversight ===

impl Oversight {
    pub(crate) fn new(replicas: usize, restart: Restart, bell: Arc<Notify>) -> Self {
        Self {
            posts: (0..replicas).map(|_| Post::new()).collect(),
            cut: AtomicBool::new(false),
            restart,
            bell,
        }
    }

    pub(crate) fn replicas(&self) -> usize {
        self.posts.len()
    }

    /// Whether a shutdown message restarts the child instead of ending it.
    pub(crate) fn outlives_shutdown(&self) -> bool {
        self.restart == Restart::Permanent
    }

    /// Whether a failure restarts the child instead of ending it.
    pub(crate) fn comes_back(&self) -> bool {
        self.restart != Restart::Temporary
    }

    /// Whether every replica has a handler that has started.
    pub(crate) fn is_up(&self) -> bool {
        self.posts
            .iter()
            .all(|post| post.up.load(Ordering::Acquire))
    }

    /// Whether both have the same supervisor.
    pub(crate) fn is_sibling_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bell, &other.bell)
    }

    // --- the supervisor's side

    pub(crate) fn order(&self, replica: usize, order: Order) {
        let post = &self.posts[replica];
        let mut talk = post.talk();
        talk.order = order;
        if order == Order::Start {
            talk.news = None;
            self.cut.store(false, Ordering::Release);
        }
        post.recalled
            .store(order == Order::Leave, Ordering::Release);
    }

    pub(crate) fn take_news(&self, replica: usize) -> Option<News> {
        self.posts[replica].talk().news.take()
    }

    /// Has running handlers dropped, or no longer so.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
    }

    // --- the replica's side

    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn is_recalled(&self, replica: usize) -> bool {
        self.posts[replica].recalled.load(Ordering::Acquire)
    }

    /// Takes the order to start, if there is one. An order to leave is answered: the
    /// replica has no handler already.
    pub(crate) fn take_start(&self, replica: usize) -> bool {
        let post = &self.posts[replica];
        let mut talk = post.talk();
        match std::mem::replace(&mut talk.order, Order::Stay) {
            Order::Stay => false,
            Order::Start => true,
            Order::Leave => {
                post.recalled.store(false, Ordering::Release);
                talk.news = Some(News::Down(Exit::Recalled));
                drop(talk);
                self.bell.notify_one();
                false
            }
        }
    }

    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    pub(crate) fn tell(&self, replica: usize, news: News) {
        let post = &self.posts[replica];
        post.up.store(news == News::Up, Ordering::Release);
        post.talk().news = Some(news);
        self.bell.notify_one();
    }
}

// === impl Post ===

impl Post {
    fn new() -> Self {
        Self {
            talk: Mutex::new(Talk {
                order: Order::Stay,
                news: None,
            }),
            recalled: AtomicBool::new(false),
            up: AtomicBool::new(false),
        }
    }

    fn talk(&self) -> MutexGuard<'_, Talk> {
        // Nothing that can panic runs under the lock; a poisoned one is still whole.
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
