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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn arrived(headers: &[(&'static str, &'static str)]) -> Box<Head> {
        let (mut parts, ()) = Request::new(()).into_parts();
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            parts.headers.append(*name, value);
        }
        Head::arrived(parts, &RequestIds::new())
    }

    #[test]
    fn every_value_of_a_credential_is_concealed_and_nothing_else() {
        let names = [
            "authorization",
            "x-api-key",
            "cookie",
            "proxy-authorization",
            "accept",
        ];
        let values = ["first", "second", "third"];
        let headers = names.map(|name| values.map(|value| (name, value)));
        let head = arrived(headers.as_flattened());
        for name in names {
            let all = head.parts.headers.get_all(name);
            assert_eq!(all.iter().count(), values.len());
            assert!(
                all.iter()
                    .all(|value| value.is_sensitive() == (name != "accept"))
            );
        }
    }

    #[test]
    fn the_first_id_counts_if_it_is_sane() {
        assert_eq!(
            arrived(&[("x-request-id", "7"), ("x-request-id", "8")]).id,
            "7"
        );
        let fresh = arrived(&[("x-request-id", "not sane"), ("x-request-id", "8")]);
        assert_eq!(fresh.id.len(), 32);
        assert_eq!(arrived(&[]).id.len(), 32);
    }

    #[test]
    fn a_request_that_asks_for_another_protocol_is_known() {
        assert!(arrived(&[("upgrade", "websocket")]).asks_to_switch);
        assert!(!arrived(&[("accept", "*/*")]).asks_to_switch);
    }
}
