//! What a module is built with, and what becomes of it after a panic.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use crate::{
    Deadlocks, IntoHandler, NativeHandler, Overflow,
    control::Control,
    oversight::Oversight,
    readers::Readers,
    timings::{NameOf, Timings},
};

/// What becomes of a module whose handler panicked.
///
/// In every case the caller gets [`Panicked`](crate::SparkChannelError::Panicked),
/// and the message is not tried again.
pub enum PanicPolicy<H> {
    /// Go on with the same handler. Its state may be half changed: right for
    /// handlers that hold none, or change it last.
    Continue,
    /// Go on with a new handler, whose `started` runs first.
    Restart(Factory<H>),
    /// Stop, and give back what is queued.
    Stop,
}

/// Makes handlers.
pub type Factory<H> = Arc<dyn Fn() -> H + Send + Sync>;

pub(crate) struct Config {
    pub(crate) name: Option<Arc<str>>,
    /// What the module is named after if it is given no name.
    type_name: &'static str,
    pub(crate) capacity: usize,
    pub(crate) overflow: Overflow,
    pub(crate) default_timeout: Option<Duration>,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) drop_abandoned: bool,
    pub(crate) direct_calls: bool,
    pub(crate) deadlocks: Deadlocks,
    pub(crate) oversight: Option<Arc<Oversight>>,
    pub(crate) timings: Option<Arc<Timings>>,
}

// === impl PanicPolicy ===

impl<H: NativeHandler> PanicPolicy<H> {
    /// Restarts with what `factory` makes.
    pub fn restart<T, Marker>(factory: impl Fn() -> T + Send + Sync + 'static) -> Self
    where
        T: IntoHandler<Marker, Handler = H>,
    {
        Self::Restart(Arc::new(move || factory().into_handler()))
    }
}

impl<H> Clone for PanicPolicy<H> {
    fn clone(&self) -> Self {
        match self {
            Self::Continue => Self::Continue,
            Self::Restart(factory) => Self::Restart(Arc::clone(factory)),
            Self::Stop => Self::Stop,
        }
    }
}

impl<H> fmt::Debug for PanicPolicy<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continue => "Continue",
            Self::Restart(_) => "Restart(..)",
            Self::Stop => "Stop",
        })
    }
}

// === impl Config ===

impl Config {
    pub(crate) fn named_after<H>() -> Self {
        Self {
            name: None,
            type_name: std::any::type_name::<H>(),
            capacity: 64,
            overflow: Overflow::Wait,
            default_timeout: None,
            shutdown_timeout: Duration::from_secs(15),
            drop_abandoned: false,
            direct_calls: true,
            deadlocks: Deadlocks::Error,
            oversight: None,
            timings: None,
        }
    }

    /// Has the module time its messages, by the names that the result gives them.
    pub(crate) fn timed<M>(
        &mut self,
        name_of: impl Fn(&M) -> &'static str + Send + Sync + 'static,
    ) -> NameOf<M> {
        self.timings = Some(Arc::default());
        Arc::new(name_of)
    }

    pub(crate) fn control(&self, replicas: usize, capacity: usize) -> Arc<Control> {
        Arc::new(self.new_control(replicas, capacity))
    }

    pub(crate) fn control_of_set(&self, slots: usize, capacity: usize) -> Arc<Control> {
        Arc::new(self.new_control(slots, capacity).with_members())
    }

    pub(crate) fn control_of_readers(
        &self,
        readers: NonZeroUsize,
        capacity: usize,
    ) -> Arc<Control> {
        let mut control = self.new_control(1, capacity);
        control.readers = Some(Arc::new(Readers::new(readers)));
        Arc::new(control)
    }

    fn new_control(&self, replicas: usize, capacity: usize) -> Control {
        let mut control = Control::new(
            match &self.name {
                Some(name) => Arc::clone(name),
                None => short_type_name(self.type_name).into(),
            },
            replicas,
            capacity,
            self.default_timeout,
            self.shutdown_timeout,
            self.deadlocks,
        );
        control.timings.clone_from(&self.timings);
        control.overseen(self.oversight.clone())
    }
}

/// `app::orders::Orders<app::Db>` → `Orders`.
pub(crate) fn short_type_name(full: &str) -> &str {
    let without_generics = full.split('<').next().unwrap_or(full);
    without_generics.rsplit("::").next().unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::short_type_name;

    #[test]
    fn a_module_is_named_after_its_type_without_path_and_parameters() {
        assert_eq!(short_type_name("app::orders::Orders<app::Db>"), "Orders");
        assert_eq!(short_type_name("Orders"), "Orders");
    }
}
