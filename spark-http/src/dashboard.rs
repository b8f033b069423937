//! The live page at `/_spark`: its files, and the stream of what it shows.

use http::{
    HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};

use crate::{Answer, Body, Draining, ErrorAnswer, Seeing};

mod events;
mod picture;
mod sampler;

use self::events::Events;
pub(crate) use self::sampler::Sampler;

/// What there is below `/_spark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Page,
    Style,
    Script,
    Icon,
    Events,
}

// === impl Part ===

impl Part {
    #[inline]
    pub(crate) fn at(path: &str) -> Option<Self> {
        // Addresses in the page are relative, so that it may be mounted below a path.
        match path.strip_prefix("/_spark")? {
            "" => Some(Self::Page),
            "/style.css" => Some(Self::Style),
            "/page.js" => Some(Self::Script),
            "/icon.svg" => Some(Self::Icon),
            "/events" => Some(Self::Events),
            _ => None,
        }
    }

    /// Whether it is the same everywhere and tells nothing of the service.
    pub(crate) fn is_static(self) -> bool {
        self != Self::Events
    }

    pub(crate) fn answer(self, seeing: &Seeing, parts: &Parts) -> Result<Answer, ErrorAnswer> {
        let (kind, body) = match self {
            Self::Page => (
                "text/html; charset=utf-8",
                include_str!("dashboard/page.html").into(),
            ),
            Self::Style => (
                "text/css; charset=utf-8",
                include_str!("dashboard/style.css").into(),
            ),
            Self::Script => (
                "text/javascript; charset=utf-8",
                include_str!("dashboard/page.js").into(),
            ),
            Self::Icon => ("image/svg+xml", include_str!("dashboard/icon.svg").into()),
            Self::Events => {
                let draining = parts.extensions.get::<Draining>().cloned();
                let Some(events) = Events::open(seeing, draining) else {
                    return Err(ErrorAnswer::too_many_viewers());
                };
                ("text/event-stream", Body::wrap(events))
            }
        };
        let mut answer = Answer::new(body);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Ok(answer)
    }
}

/// Nothing but the page's own files and stream, no frames, nothing kept.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
];
