//! Which auto traits the public types have. Losing one breaks callers far away.

use std::{
    cell::Cell,
    panic::{RefUnwindSafe, UnwindSafe},
    sync::Arc,
};

use spark_state::{
    AnyValue, Builder, Expiry, Key, LoadError, RecvError, SharedState, Snapshot, StateError,
    StateEvent, StateValue, Stats, Subscription, Sweeper, Version, Versioned, Watch, WireValue,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

assert_impl_all!(SharedState: Clone, Send, Sync, Unpin);
assert_impl_all!(StateValue: Clone, Send, Sync, Unpin);
assert_impl_all!(AnyValue: Clone, Send, Sync, Unpin);
assert_impl_all!(StateError: Clone, std::error::Error, Send, Sync, UnwindSafe, RefUnwindSafe);
assert_impl_all!(Watch<Arc<str>>: Send, Sync, Unpin);
assert_impl_all!(Subscription: Send, Sync, Unpin);
assert_impl_all!(Sweeper: Send, Sync, Unpin);
assert_impl_all!(Snapshot: Clone, Send, Sync, Unpin);
assert_impl_all!(StateEvent: Clone, Send, Sync, Unpin);
assert_impl_all!(WireValue: Clone, Send, Sync, Unpin);
assert_impl_all!(LoadError: std::error::Error, Send, Sync);
assert_impl_all!(RecvError: Copy, std::error::Error, Send, Sync);
assert_impl_all!(Builder: Copy, Send, Sync);
assert_impl_all!(Expiry: Copy, Send, Sync);
assert_impl_all!(Stats: Copy, Send, Sync);
assert_impl_all!(Version: Copy, Ord, Send, Sync);
assert_impl_all!(Versioned<Arc<str>>: Clone, Send, Sync);
// A key holds no value of its type.
assert_impl_all!(Key<Cell<u8>>: Copy, Send, Sync);
assert_not_impl_any!(Watch<i64>: Clone);

fn futures_are_send(state: &SharedState) -> impl Send + '_ {
    async move {
        let init = || async { Ok::<_, StateError>(1_i64) };
        let _ = state.get_or_try_init("key", init).await;
        let _ = state.call("key", ()).await;
        let _ = state.watch::<i64>("key").changed().await;
        let _ = state.subscribe("", 1).recv().await;
        let _ = state.save("file").await;
        state.sweep_every(std::time::Duration::MAX).stop().await;
    }
}

#[test]
fn the_futures_of_a_store_can_be_sent() {
    drop(futures_are_send(&SharedState::new()));
}
