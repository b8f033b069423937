//! The addresses that a [`Seeing`](super::Seeing) answers.

#[cfg(feature = "dashboard")]
use crate::dashboard::Part;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Live,
    Ready,
    Metrics,
    #[cfg(feature = "openapi")]
    OpenApi,
    #[cfg(feature = "dashboard")]
    Dashboard(Part),
}

// === impl View ===

impl View {
    #[inline]
    pub(crate) fn at(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            #[cfg(feature = "openapi")]
            "/openapi.json" => Some(Self::OpenApi),
            #[cfg(feature = "dashboard")]
            path => Part::at(path).map(Self::Dashboard),
            #[cfg(not(feature = "dashboard"))]
            _ => None,
        }
    }

    /// Whether it tells nothing that needs a credential.
    pub(crate) fn is_open(self) -> bool {
        match self {
            Self::Live | Self::Ready => true,
            Self::Metrics => false,
            #[cfg(feature = "openapi")]
            Self::OpenApi => false,
            #[cfg(feature = "dashboard")]
            Self::Dashboard(part) => part.is_static(),
        }
    }
}
