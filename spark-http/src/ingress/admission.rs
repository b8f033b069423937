//! A request's place among those in flight.

use std::sync::Arc;

use http::{Method, request::Parts};
use tokio::time::{Instant, timeout_at};

use crate::{
    Answer, ErrorAnswer,
    permits::{Full, Permit, Permits},
    server::AfterUpgrade,
};

/// The limits that hold for a request. `None` is no limit.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    pub(super) route: Option<&'a Arc<Permits>>,
    pub(super) all: Option<&'a Arc<Permits>>,
}

/// What a request holds while it is in flight.
pub(super) struct Admission {
    /// Given back from top to bottom.
    route: Option<Permit>,
    all: Option<Permit>,
}

/// A request that asks for another protocol.
pub(super) struct Upgrade {
    method: Method,
    after: AfterUpgrade,
}

// === impl Limits ===

impl Limits<'_> {
    /// Looks whether it is worth the while to read the body.
    ///
    /// # Errors
    ///
    /// 503 if the request would be turned away if its body were there.
    pub(super) fn check(self) -> Result<(), ErrorAnswer> {
        let is_full = |permits: &Arc<Permits>| permits.is_full();
        if self.route.is_some_and(is_full) || self.all.is_some_and(is_full) {
            return Err(ErrorAnswer::saturated());
        }
        Ok(())
    }

    /// Takes the route's permit and then the one of all: who waits for a busy route holds
    /// nothing that others need.
    ///
    /// # Errors
    ///
    /// 503 if there is no room to wait, 504 at the deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up its place.
    pub(super) async fn admit(self, deadline: Option<Instant>) -> Result<Admission, ErrorAnswer> {
        Ok(Admission {
            route: acquire(self.route, deadline).await?,
            all: acquire(self.all, deadline).await?,
        })
    }
}

// === impl Upgrade ===

impl Upgrade {
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let after = parts.extensions.get::<AfterUpgrade>()?.clone();
        let method = parts.method.clone();
        Some(Self { method, after })
    }

    fn is_accepted(&self, answer: &Answer) -> bool {
        ErrorAnswer::switches_protocols(&self.method, answer.status())
    }
}

// === impl Admission ===

impl Admission {
    /// Gives the permits back once `answer` is complete: now, unless its body is yet to come, or the
    /// connection goes on with another protocol.
    pub(super) fn last_for(self, answer: Answer, upgrade: Option<Upgrade>) -> Answer {
        if self.is_empty() {
            return answer;
        }
        match upgrade {
            Some(upgrade) if upgrade.is_accepted(&answer) => {
                upgrade.after.hold(self);
                answer
            }
            _ => answer.map(|body| body.holding(self)),
        }
    }

    fn is_empty(&self) -> bool {
        self.route.is_none() && self.all.is_none()
    }
}

async fn acquire(
    permits: Option<&Arc<Permits>>,
    deadline: Option<Instant>,
) -> Result<Option<Permit>, ErrorAnswer> {
    let Some(permits) = permits else {
        return Ok(None);
    };
    if let Some(permit) = permits.try_acquire() {
        return Ok(Some(permit));
    }
    let acquiring = permits.acquire();
    let acquired = match deadline {
        None => acquiring.await,
        // Boxed: most requests' futures need no room for it.
        Some(deadline) => match Box::pin(timeout_at(deadline, acquiring)).await {
            Ok(acquired) => acquired,
            Err(_) => return Err(ErrorAnswer::never_started()),
        },
    };
    match acquired {
        Ok(permit) => Ok(Some(permit)),
        Err(Full) => Err(ErrorAnswer::saturated()),
    }
}
