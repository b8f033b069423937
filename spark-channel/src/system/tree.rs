//! Something a system owns.

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{ChildReport, ChildStatus, ModuleHandle, Stop, SupervisorHandle, stop::Wish};

/// A supervisor or a module, whatever its messages are.
pub(super) trait Tree: Send {
    /// Tells it to stop, also once [`shutdown`](Self::shutdown) has it.
    fn brake(&self) -> Brake;

    /// Stops it and waits for its report.
    fn shutdown(self: Box<Self>, wish: Wish) -> Reporting;

    /// Tells it to stop, for nobody owns it any more.
    fn let_go(&self);

    fn status(&self) -> ChildStatus;
}

pub(super) type Brake = Arc<dyn Fn(Wish) + Send + Sync>;

pub(super) type Reporting = Pin<Box<dyn Future<Output = ChildReport> + Send>>;

impl Tree for SupervisorHandle {
    fn brake(&self) -> Brake {
        self.stopper()
    }

    fn shutdown(self: Box<Self>, wish: Wish) -> Reporting {
        Box::pin(async move {
            self.stopper()(wish);
            ChildReport::Supervisor(SupervisorHandle::wait(*self).await)
        })
    }

    fn let_go(&self) {
        self.stop(Stop::Drain);
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
    fn brake(&self) -> Brake {
        self.stopper()
    }

    fn shutdown(self: Box<Self>, wish: Wish) -> Reporting {
        Box::pin(async move {
            let Wish { stop, .. } = wish;
            ChildReport::Module(ModuleHandle::shutdown_within(*self, stop, wish.left()).await)
        })
    }

    fn let_go(&self) {
        self.stop(Stop::Drain);
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
