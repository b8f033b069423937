//! What a panic says. For logs only.

use std::any::Any;

/// The text of a panic's payload.
pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
