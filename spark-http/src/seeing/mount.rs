//! How an ingress uses a [`Seeing`]: what it counts for it, and what it answers from it.

use std::sync::Arc;

use http::request::Parts;

use super::{Seeing, routes::RouteCounters, view::View};
use crate::{Answer, ConfigError, ErrorAnswer, Route};

/// A [`Seeing`] and how much of it an ingress serves.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    seeing: Seeing,
    serves: Serves,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// Health without a credential, the rest with one.
    OpenHealth,
    /// Nothing without a credential.
    Guarded,
    /// Nothing: it only counts.
    Nothing,
}

// === impl Mount ===

impl Mount {
    pub(crate) fn new(seeing: &Seeing, serves: Serves) -> Self {
        Self {
            seeing: seeing.clone(),
            serves,
        }
    }

    /// The counters for a route that clients know as `label`.
    pub(crate) fn counters(&self, label: &str, route: &Route) -> Arc<RouteCounters> {
        self.seeing.route(label, route.watched())
    }

    /// Adds routes to the OpenAPI document.
    #[cfg(feature = "openapi")]
    pub(crate) fn document(&self, routes: Vec<crate::openapi::Documented>) {
        self.seeing.document(routes);
    }

    /// Counts a request that reached no route.
    pub(crate) fn count_unrouted(&self, error: &ErrorAnswer) {
        self.seeing.unrouted().count_refused(error.status());
    }

    /// The answer to a request that needs no credential, if it is one of those.
    pub(crate) fn answer_open(&self, parts: &Parts) -> Option<Result<Answer, ErrorAnswer>> {
        let view = self.view(parts)?;
        let is_open = self.serves == Serves::OpenHealth && view.is_open();
        is_open.then(|| self.seeing.answer(view, parts))
    }

    /// Whether a request is for what is answered here.
    pub(crate) fn has(&self, parts: &Parts) -> bool {
        self.view(parts).is_some()
    }

    /// The answer to a request that is [for what is answered here](Self::has), and whose credential, if
    /// one is asked for, was good.
    pub(crate) fn answer(&self, parts: &Parts) -> Result<Answer, ErrorAnswer> {
        match self.view(parts) {
            Some(view) => self.seeing.answer(view, parts),
            None => Err(ErrorAnswer::nothing_here()),
        }
    }

    /// # Errors
    ///
    /// [`ConfigError::DuplicateRoute`] if a route called `name` would never be reached.
    pub(crate) fn claim(&self, name: &str) -> Result<(), ConfigError> {
        let path = format!("/{}", name.strip_prefix('/').unwrap_or(name));
        if self.serves != Serves::Nothing && View::at(&path).is_some() {
            let name = name.to_owned();
            return Err(ConfigError::DuplicateRoute { name });
        }
        Ok(())
    }

    fn view(&self, parts: &Parts) -> Option<View> {
        match self.serves {
            Serves::Nothing => None,
            _ => View::at(parts.uri.path()),
        }
    }
}
