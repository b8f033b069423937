//! The head of a request, as an ingress gets it.

use http::{HeaderValue, header::UPGRADE, request::Parts};

use crate::{
    auth,
    request_id::{self, RequestIds, X_REQUEST_ID},
};

/// A request's head, and what is known of it. Boxed as it arrives: what passes requests on moves
/// a pointer.
pub(crate) struct Head {
    pub(crate) parts: Parts,
    /// The client's own, or a new one.
    pub(crate) id: HeaderValue,
    pub(crate) asks_to_switch: bool,
}

// === impl Head ===

impl Head {
    /// Looks through the headers, and marks credentials, so that whoever logs headers, a mounted service
    /// among them, does not log these.
    pub(crate) fn arrived(mut parts: Parts, ids: &RequestIds) -> Box<Self> {
        let mut given = None;
        let mut asks_to_switch = false;
        // Once: it costs less than to look up each of them, most of which are not there.
        for (name, value) in &mut parts.headers {
            if auth::is_credential(name) {
                value.set_sensitive(true);
            } else if *name == X_REQUEST_ID {
                given.get_or_insert(&*value);
            } else if *name == UPGRADE {
                asks_to_switch = true;
            }
        }
        let id = given.and_then(request_id::sane);
        let id = id.unwrap_or_else(|| ids.fresh());
        Box::new(Self {
            parts,
            id,
            asks_to_switch,
        })
    }
}
