//! A store, and scopes of it that are within each other, beside each other, and named alike.

use spark_state::SharedState;

/// What the names of each view begin with.
pub(crate) const PREFIXES: [&str; 4] = ["", "a/", "a/b/", "ab/"];

/// Keys, of which some are another one's in another view.
pub(crate) const KEYS: [&str; 3] = ["1", "2", "b/1"];

/// The views of a store, in the order of their prefixes.
pub(crate) fn of(state: &SharedState) -> [SharedState; 4] {
    let a = state.scope("a");
    let b = a.scope("b");
    [state.clone(), a, b, state.scope("ab")]
}
