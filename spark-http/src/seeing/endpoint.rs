//! The addresses that a [`Seeing`](super::Seeing) answers.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Live,
    Ready,
    Metrics,
}

// === impl Endpoint ===

impl Endpoint {
    #[inline]
    pub(crate) fn at(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }

    /// Whether it tells nothing that needs a credential.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::Ready)
    }
}
