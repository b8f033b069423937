//! The snippets of the guides under `docs/`, compiled and run as doctests.

#[doc = include_str!("../../docs/migration/actix.md")]
mod from_actix {}

#[doc = include_str!("../../docs/migration/kameo.md")]
mod from_kameo {}

#[doc = include_str!("../../docs/migration/ractor.md")]
mod from_ractor {}
