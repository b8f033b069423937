//! One child of a running supervisor, whatever it is.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use super::{
    decision::Plan,
    report::{ChildReport, ChildStatus, SupervisorEnd, SupervisorReport},
};
use crate::{
    ModuleHandle, ModuleState, Report, Restart, Stats, Stop, StopReason,
    control::Control,
    oversight::{Order, Oversight},
    run_loop::announce,
    stop::Wish,
};

/// A child, its task and its end. Dropped before that, the child is told to stop.
pub(super) struct Branch {
    pub(super) oversight: Arc<Oversight>,
    pub(super) restart: Restart,
    /// Set once it has ended.
    pub(super) report: Option<ChildReport>,
    kind: Kind,
}

enum Kind {
    Module {
        control: Arc<Control>,
        task: JoinHandle<()>,
        stats: Arc<StatsOf>,
        /// The dispatcher that keeps the module alive for as long as its supervisor.
        _kept: Box<dyn Any + Send + Sync>,
    },
    Supervisor {
        shared: Arc<Shared>,
        task: JoinHandle<SupervisorReport>,
    },
}

type StatsOf = dyn Fn() -> Stats + Send + Sync;

/// What can be seen of a child from outside of its supervisor's task.
pub(super) enum Probe {
    Module(Arc<Control>, Arc<StatsOf>),
    Supervisor(Arc<Shared>),
}

/// What a supervisor's task shares with its handle, and with its parent's task.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) bell: Arc<Notify>,
    pub(super) restarts: AtomicU64,
    pub(super) shutdown_timeout: Duration,
    pub(super) probes: Vec<Probe>,
    pub(super) oversight: Option<Arc<Oversight>>,
    wish: Mutex<Option<Wish>>,
    report: OnceLock<SupervisorReport>,
}

// === impl Branch ===

impl Branch {
    pub(super) fn module<M, R, C, E>(
        handle: ModuleHandle<M, R, C, E>,
        oversight: Arc<Oversight>,
        restart: Restart,
        bell: Arc<Notify>,
    ) -> Self
    where
        M: Send + 'static,
        R: Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
    {
        let (dispatcher, control, task) = handle.into_parts();
        if control
            .ending
            .add(Box::new(move |_| bell.notify_one()))
            .is_err()
        {
            unreachable!("it waits for orders");
        }
        let (weak, seen) = (dispatcher.downgrade(), Arc::clone(&control));
        let stats = move || weak.stats().unwrap_or_else(|| seen.stats(0));
        let kind = Kind::Module {
            control,
            task,
            stats: Arc::new(stats),
            _kept: Box::new(dispatcher),
        };
        Self::new(oversight, restart, kind)
    }

    pub(super) fn supervisor(
        shared: Arc<Shared>,
        task: JoinHandle<SupervisorReport>,
        oversight: Arc<Oversight>,
        restart: Restart,
    ) -> Self {
        Self::new(oversight, restart, Kind::Supervisor { shared, task })
    }

    const fn new(oversight: Arc<Oversight>, restart: Restart, kind: Kind) -> Self {
        Self {
            oversight,
            restart,
            report: None,
            kind,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        match &self.kind {
            Kind::Module { control, .. } => &control.name,
            Kind::Supervisor { shared, .. } => &shared.name,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        Plan {
            restart: self.restart,
            replicas: self.oversight.replicas(),
            leave_within: match &self.kind {
                Kind::Module { control, .. } => Some(control.shutdown_timeout.to_duration()),
                Kind::Supervisor { .. } => None,
            },
        }
    }

    pub(super) fn probe(&self) -> Probe {
        match &self.kind {
            Kind::Module { control, stats, .. } => {
                Probe::Module(Arc::clone(control), Arc::clone(stats))
            }
            Kind::Supervisor { shared, .. } => Probe::Supervisor(Arc::clone(shared)),
        }
    }

    pub(super) fn order(&self, replica: usize, order: Order) {
        self.oversight.order(replica, order);
        match &self.kind {
            Kind::Module { control, .. } => control.slots[replica].wake(),
            Kind::Supervisor { shared, .. } => shared.bell.notify_one(),
        }
    }

    /// Drops what its handlers do.
    pub(super) fn cut(&self) {
        self.oversight.set_cut(true);
        self.wake();
    }

    /// Has the handlers of a module look again what they are to do.
    pub(super) fn wake(&self) {
        if let Kind::Module { control, .. } = &self.kind {
            for slot in control.slots.iter() {
                slot.wake();
            }
        }
    }

    /// Ends it for good. `cause` is what its report says, where that can be said of
    /// it. May be repeated.
    pub(super) fn end(&self, wish: Wish, cause: Option<StopReason>, now: Instant) {
        self.oversight.set_cut(false);
        match &self.kind {
            Kind::Module { control, .. } => {
                let cause = cause.unwrap_or(StopReason::Requested(wish.stop));
                let within = wish.deadline.saturating_duration_since(now);
                control.stop_for(cause, wish.stop, within.into());
            }
            Kind::Supervisor { shared, .. } => shared.stop(wish),
        }
    }

    /// How long it may take to end when nobody says how long.
    pub(super) fn shutdown_timeout(&self) -> Duration {
        match &self.kind {
            Kind::Module { control, .. } => control.shutdown_timeout.to_duration(),
            Kind::Supervisor { shared, .. } => shared.shutdown_timeout,
        }
    }

    /// The child's end, if it has come and has not been noticed yet, and whether it
    /// was lost.
    pub(super) fn ended(&mut self) -> Option<bool> {
        if self.report.is_some() {
            return None;
        }
        let (report, lost) = match &self.kind {
            Kind::Module { control, .. } => {
                let report = control.ending.report()?.clone();
                let lost = matches!(
                    report.reason,
                    StopReason::Aborted | StopReason::Unresponsive
                );
                (ChildReport::Module(report), lost)
            }
            Kind::Supervisor { shared, .. } => {
                let report = shared.report.get()?.clone();
                let lost = matches!(
                    report.reason,
                    SupervisorEnd::GaveUp { .. } | SupervisorEnd::Aborted
                );
                (ChildReport::Supervisor(report), lost)
            }
        };
        self.report = Some(report);
        Some(lost)
    }

    /// Gives up a module that does not react. A supervisor always does.
    pub(super) fn abandon(&mut self) {
        if self.report.is_some() {
            return;
        }
        if let Kind::Module {
            control,
            task,
            stats,
            ..
        } = &self.kind
        {
            task.abort();
            let report = Report {
                stats: stats(),
                ..control.report(StopReason::Unresponsive, 0)
            };
            // It may have ended at the last moment: what watchers have learnt counts.
            let report = announce(control, report).clone();
            self.report = Some(ChildReport::Module(report));
        }
    }

    pub(super) const fn is_module(&self) -> bool {
        matches!(self.kind, Kind::Module { .. })
    }

    /// Waits for the task of a child that has ended, and returns the report.
    pub(super) async fn reap(&mut self) -> ChildReport {
        let report = self.report.take();
        let unresponsive = matches!(
            &report,
            Some(ChildReport::Module(report)) if report.reason == StopReason::Unresponsive
        );
        match &mut self.kind {
            Kind::Module { control, task, .. } => {
                if !unresponsive {
                    // It has said its last word, and the task is at its last step.
                    let _ = task.await;
                }
                report
                    .unwrap_or_else(|| ChildReport::Module(control.report(StopReason::Aborted, 0)))
            }
            Kind::Supervisor { shared, task } => {
                let _ = task.await;
                report.unwrap_or_else(|| ChildReport::Supervisor(shared.aborted()))
            }
        }
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Module { control, .. } if !control.has_ended() => {
                control.request_stop(Stop::Now, control.shutdown_timeout);
            }
            Kind::Supervisor { shared, task } if !task.is_finished() => {
                shared.stop(Wish::within(Stop::Now, shared.shutdown_timeout));
            }
            _ => {}
        }
    }
}

// === impl Probe ===

impl Probe {
    pub(super) fn status(&self) -> ChildStatus {
        match self {
            Self::Module(control, stats) => ChildStatus {
                name: Arc::clone(&control.name),
                state: control.state(),
                restarts: control.restarts(),
                stats: Some(stats()),
                children: Vec::new(),
            },
            Self::Supervisor(shared) => shared.status(),
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(
        name: Arc<str>,
        bell: Arc<Notify>,
        shutdown_timeout: Duration,
        probes: Vec<Probe>,
        oversight: Option<Arc<Oversight>>,
    ) -> Self {
        Self {
            name,
            bell,
            restarts: AtomicU64::new(0),
            shutdown_timeout,
            probes,
            oversight,
            wish: Mutex::new(None),
            report: OnceLock::new(),
        }
    }

    /// Asks for the end of the supervisor; a stronger stop replaces a weaker one, an
    /// earlier deadline a later one.
    pub(super) fn stop(&self, wish: Wish) {
        {
            let mut wished = self.wished();
            let merged = wished.map_or(wish, |earlier| earlier.and(wish));
            *wished = Some(merged);
        }
        self.bell.notify_one();
    }

    pub(super) fn wish(&self) -> Option<Wish> {
        *self.wished()
    }

    pub(super) fn end(&self, report: SupervisorReport) {
        let _ = self.report.set(report);
        if let Some(oversight) = &self.oversight {
            oversight.ring();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.report.get().is_some()
    }

    pub(super) fn state(&self) -> ModuleState {
        if self.has_ended() {
            ModuleState::Ended
        } else if self.wish().is_some() {
            ModuleState::Stopping
        } else if self.oversight.as_ref().is_some_and(|o| !o.is_up()) {
            ModuleState::Restarting
        } else {
            ModuleState::Running
        }
    }

    pub(super) fn status(&self) -> ChildStatus {
        ChildStatus {
            name: Arc::clone(&self.name),
            state: self.state(),
            restarts: self.restarts.load(Ordering::Relaxed),
            stats: None,
            children: self.children(),
        }
    }

    pub(super) fn children(&self) -> Vec<ChildStatus> {
        self.probes.iter().map(Probe::status).collect()
    }

    /// The report of a supervisor that came to no end of its own.
    pub(super) fn aborted(&self) -> SupervisorReport {
        SupervisorReport {
            supervisor: Arc::clone(&self.name),
            reason: SupervisorEnd::Aborted,
            deadline_passed: false,
            restarts: self.restarts.load(Ordering::Relaxed),
            children: Vec::new(),
        }
    }

    fn wished(&self) -> MutexGuard<'_, Option<Wish>> {
        // Nothing that can panic runs under the lock; a poisoned one is still whole.
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
