//! Whether a service is ready for more requests.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// What a service needs beside its modules, asked when somebody wants to know.
#[derive(Clone)]
pub(crate) struct Check {
    pub(crate) name: Arc<str>,
    passes: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Why a service is not ready. It is ready if there is no reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unready {
    /// Servers that were told to stop.
    pub(crate) draining: Vec<Arc<str>>,
    /// Modules that do not run.
    pub(crate) modules: Vec<Arc<str>>,
    /// Checks that do not pass.
    pub(crate) checks: Vec<Arc<str>>,
}

// === impl Check ===

impl Check {
    pub(crate) fn new(name: Arc<str>, passes: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            name,
            passes: Arc::new(passes),
        }
    }

    pub(crate) fn passes(&self) -> bool {
        // Unwind safe: the same function is called again, which is the user's to bear.
        catch_unwind(AssertUnwindSafe(|| (self.passes)())).unwrap_or_else(|_| {
            tracing::error!(check = &*self.name, "readiness check panicked");
            false
        })
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

// === impl Unready ===

impl Unready {
    pub(crate) fn is_ready(&self) -> bool {
        self.draining.is_empty() && self.modules.is_empty() && self.checks.is_empty()
    }

    /// How many, without names: whoever asks has shown no credential.
    pub(crate) fn summary(&self) -> String {
        if !self.draining.is_empty() {
            return "not ready: server is shutting down".to_owned();
        }
        let (modules, checks) = (self.modules.len(), self.checks.len());
        format!("not ready: modules that do not run: {modules}, checks that fail: {checks}")
    }
}
