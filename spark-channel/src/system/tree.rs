//! Something a system owns.

use std::{future::Future, pin::Pin, time::Duration};

use crate::{ChildReport, ChildStatus, ModuleHandle, Stop, SupervisorHandle};

/// A supervisor or a module, whatever its messages are.
pub(super) trait Tree: Send {
    /// Tells it to stop.
    fn stop(&self, stop: Stop, within: Duration);

    /// Stops it and waits for its report.
    fn shutdown(self: Box<Self>, stop: Stop, within: Duration) -> Reporting;

    fn status(&self) -> ChildStatus;
}

pub(super) type Reporting = Pin<Box<dyn Future<Output = ChildReport> + Send>>;

impl Tree for SupervisorHandle {
    fn stop(&self, stop: Stop, within: Duration) {
        self.stop_within(stop, within);
    }

    fn shutdown(self: Box<Self>, stop: Stop, within: Duration) -> Reporting {
        Box::pin(async move {
            ChildReport::Supervisor(SupervisorHandle::shutdown_within(*self, stop, within).await)
        })
    }

    fn status(&self) -> ChildStatus {
        SupervisorHandle::status(self)
    }
}

impl<M, R, C, E> Tree for ModuleHandle<M, R, C, E>
where
    M: Send + 'static,
    R: Send + 'static,
    C: Send + 'static,
    E: Send + 'static,
{
    fn stop(&self, stop: Stop, within: Duration) {
        self.request_stop(stop, within);
    }

    fn shutdown(self: Box<Self>, stop: Stop, within: Duration) -> Reporting {
        Box::pin(async move {
            ChildReport::Module(ModuleHandle::shutdown_within(*self, stop, within).await)
        })
    }

    fn status(&self) -> ChildStatus {
        let watch = self.watch();
        ChildStatus {
            name: self.name().into(),
            state: watch.state(),
            restarts: watch.restarts(),
            stats: Some(self.stats()),
            children: Vec::new(),
        }
    }
}
