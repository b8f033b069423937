//! A value and what the store keeps beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    Expiry, StateValue, Version,
    clock::{LazyNow, Moment},
    room::Charge,
};

/// What a key leads to. With its key 64 bytes, which is a line of the processor's cache: what only
/// some stores need is behind a pointer.
pub(crate) struct Entry {
    pub(crate) value: StateValue,
    pub(crate) version: Version,
    /// Of a value that expires.
    pub(crate) lifetime: Option<Box<Lifetime>>,
    /// In a store with bounds.
    pub(crate) charge: Option<Arc<Charge>>,
}

/// When a value expires.
pub(crate) struct Lifetime {
    expires_at: Moment,
    idle: Option<Duration>,
    /// Only of a value with an idle time.
    used_at: AtomicU64,
}

// === impl Entry ===

impl Entry {
    #[inline]
    pub(crate) fn is_over(&self, now: &mut LazyNow) -> bool {
        match &self.lifetime {
            None => false,
            Some(lifetime) => lifetime.deadline() <= now.get(),
        }
    }

    /// When it expires unless it is used before.
    pub(crate) fn deadline(&self) -> Moment {
        self.lifetime
            .as_ref()
            .map_or(Moment::NEVER, |lifetime| lifetime.deadline())
    }
}

// === impl Lifetime ===

impl Lifetime {
    /// A life that begins now, if it is to end.
    #[inline]
    pub(crate) fn begin(expiry: Expiry, now: &mut LazyNow) -> Option<Box<Self>> {
        if expiry.ttl.is_none() && expiry.idle.is_none() {
            return None;
        }
        let now = now.get();
        let expires_at = expiry.ttl.map_or(Moment::NEVER, |ttl| now.after(ttl));
        Some(Box::new(Self::new(expires_at, expiry.idle, now)))
    }

    pub(crate) fn new(expires_at: Moment, idle: Option<Duration>, used_at: Moment) -> Self {
        Self {
            expires_at,
            idle,
            used_at: AtomicU64::new(used_at.to_raw()),
        }
    }

    pub(crate) fn deadline(&self) -> Moment {
        self.expires_at.min(self.idle_at())
    }

    pub(crate) fn expires_at(&self) -> Moment {
        self.expires_at
    }

    pub(crate) fn idle(&self) -> Option<Duration> {
        self.idle
    }

    pub(crate) fn idle_at(&self) -> Moment {
        match self.idle {
            None => Moment::NEVER,
            Some(idle) => Moment::from_raw(self.used_at.load(Ordering::Relaxed)).after(idle),
        }
    }

    /// Notes that it was used.
    pub(crate) fn touch(&self, now: &mut LazyNow) {
        if self.idle.is_some() {
            self.used_at
                .fetch_max(now.get().to_raw(), Ordering::Relaxed);
        }
    }
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<(Arc<str>, Entry)>() == 64);
