//! The snippets of the guides under `docs/`, compiled and run as doctests.

#[doc = include_str!("../../docs/migration/actix.md")]
mod from_actix {}

#[doc = include_str!("../../docs/migration/kameo.md")]
mod from_kameo {}

#[doc = include_str!("../../docs/migration/ractor.md")]
mod from_ractor {}

#[doc = include_str!("../../docs/guide/first-module.md")]
mod first_module {}

#[doc = include_str!("../../docs/guide/errors-and-deadlines.md")]
mod errors_and_deadlines {}

#[doc = include_str!("../../docs/guide/stopping.md")]
mod stopping {}

#[cfg(feature = "macros")]
#[doc = include_str!("../../docs/guide/module-macro.md")]
mod module_macro {}

#[cfg(feature = "macros")]
#[doc = include_str!("../../docs/guide/sharing-work.md")]
mod sharing_work {}

#[doc = include_str!("../../docs/guide/overload.md")]
mod overload {}

#[cfg(feature = "macros")]
#[doc = include_str!("../../docs/guide/events-and-time.md")]
mod events_and_time {}

#[cfg(feature = "macros")]
#[doc = include_str!("../../docs/guide/supervision.md")]
mod supervision {}

#[cfg(all(feature = "macros", feature = "test-util"))]
#[doc = include_str!("../../docs/guide/testing.md")]
mod testing {}

#[cfg(all(feature = "macros", feature = "metrics"))]
#[doc = include_str!("../../docs/guide/seeing.md")]
mod seeing {}
