//! A handler that is made anew each time it is started.

use std::future::Future;

use crate::{Attached, Class, Factory, NativeHandler, WeakDispatcher, run_loop::quietly};

/// What a supervised module's run loop holds: the handler that its factory made last,
/// from `started` to `stopped`.
pub(super) struct Renewed<H> {
    current: Option<H>,
    factory: Factory<H>,
}

// === impl Renewed ===

impl<H: NativeHandler> Renewed<H> {
    pub(super) const fn new(factory: Factory<H>) -> Self {
        Self {
            current: None,
            factory,
        }
    }

    /// Drops the handler.
    pub(super) fn vacate(&mut self) {
        let old = self.current.take();
        quietly(|| drop(old));
    }

    fn current(&mut self) -> &mut H {
        self.current
            .as_mut()
            .expect("the run loop handles nothing before `started`")
    }
}

impl<H: NativeHandler> NativeHandler for Renewed<H> {
    type Message = H::Message;
    type Response = H::Response;
    type Error = H::Error;

    fn handle_request(
        &mut self,
        message: H::Message,
    ) -> impl Future<Output = Result<H::Response, H::Error>> + Send {
        self.current().handle_request(message)
    }

    fn handle_command(
        &mut self,
        message: H::Message,
    ) -> impl Future<Output = Result<(), H::Error>> + Send {
        self.current().handle_command(message)
    }

    async fn started(&mut self) -> Result<(), H::Error> {
        // The old one first: it may hold what only one can hold.
        self.vacate();
        let fresh = (self.factory)();
        self.current.insert(fresh).started().await
    }

    async fn stopped(&mut self) {
        if let Some(current) = &mut self.current {
            current.stopped().await;
        }
        self.vacate();
    }

    async fn undelivered(&mut self, command: H::Message) {
        // A module that stops while it waits for its restart has no handler to take
        // its commands back, so one is made for that alone.
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert((self.factory)()),
        };
        current.undelivered(command).await;
    }

    fn command_failed(&mut self, error: H::Error) {
        if let Some(current) = &mut self.current {
            current.command_failed(error);
        }
    }

    fn classes() -> Option<fn(&H::Message) -> Class> {
        H::classes()
    }

    fn feeds<C>(module: &WeakDispatcher<H::Message, H::Response, C, H::Error>) -> Vec<Attached>
    where
        C: Send + 'static,
    {
        H::feeds(module)
    }
}
