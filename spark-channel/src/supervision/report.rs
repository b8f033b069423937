//! What a supervisor reports at its end, and tells of its children until then.

use std::sync::Arc;

use crate::{ModuleState, Report, Stats, Stop, oversight::Exit};

/// How a supervisor and each of its children ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SupervisorReport {
    /// The supervisor's name.
    pub supervisor: Arc<str>,
    /// Why it ended.
    pub reason: SupervisorEnd,
    /// Whether a deadline cut something short, of any child.
    pub deadline_passed: bool,
    /// How many failures it answered with a restart.
    pub restarts: u64,
    /// The children's reports, in the order they were added.
    pub children: Vec<ChildReport>,
}

/// Why a supervisor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SupervisorEnd {
    /// It was told to.
    Requested(Stop),
    /// There were more failures than its
    /// [`intensity`](crate::Supervisor::intensity) allows, or a child was lost that
    /// it should have kept alive.
    GaveUp {
        /// The child that failed last.
        child: Arc<str>,
        /// How it failed.
        failure: ChildFailure,
    },
    /// Every child had ended for good.
    Deserted,
    /// Its task was aborted, or its runtime ended, before it could report.
    Aborted,
}

/// How a child failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChildFailure {
    /// A handler panicked.
    Panicked,
    /// A handler's factory panicked, or its `started` failed or panicked.
    StartFailed,
    /// A shutdown message ended a [`Permanent`](crate::Restart::Permanent) child.
    ShutdownMessage,
    /// It is a supervisor, and gave up.
    GaveUp,
    /// Its handler blocks its thread, or its task was aborted: it cannot be restarted.
    Lost,
}

/// How one child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildReport {
    /// A module, or a pool.
    Module(Report),
    /// A supervisor under the supervisor.
    Supervisor(SupervisorReport),
}

/// What a child is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildStatus {
    /// Its name.
    pub name: Arc<str>,
    /// What it is doing.
    pub state: ModuleState,
    /// How often its handlers were replaced; for a supervisor, how many failures it
    /// answered with a restart.
    pub restarts: u64,
    /// What a module has counted.
    pub stats: Option<Stats>,
    /// What a supervisor's children are doing.
    pub children: Vec<ChildStatus>,
}

// === impl SupervisorReport ===

impl SupervisorReport {
    /// The reports of all modules below, in the order they were added.
    pub fn modules(&self) -> impl Iterator<Item = &Report> {
        modules_of(&self.children)
    }
}

// === impl ChildReport ===

impl ChildReport {
    /// The child's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Module(report) => &report.module,
            Self::Supervisor(report) => &report.supervisor,
        }
    }

    /// Whether a deadline cut something short.
    #[must_use]
    pub const fn deadline_passed(&self) -> bool {
        match self {
            Self::Module(report) => report.deadline_passed,
            Self::Supervisor(report) => report.deadline_passed,
        }
    }
}

// === impl ChildFailure ===

impl From<Option<Exit>> for ChildFailure {
    fn from(exit: Option<Exit>) -> Self {
        match exit {
            Some(Exit::Panicked) => Self::Panicked,
            Some(Exit::StartFailed) => Self::StartFailed,
            Some(Exit::ShutdownMessage) => Self::ShutdownMessage,
            Some(Exit::GaveUp) => Self::GaveUp,
            Some(Exit::Recalled) | None => Self::Lost,
        }
    }
}

/// The reports of all modules of `children`, and of those below.
pub(crate) fn modules_of(children: &[ChildReport]) -> impl Iterator<Item = &Report> {
    let mut modules = Vec::new();
    let mut waiting: Vec<_> = children.iter().rev().collect();
    while let Some(child) = waiting.pop() {
        match child {
            ChildReport::Module(report) => modules.push(report),
            ChildReport::Supervisor(report) => waiting.extend(report.children.iter().rev()),
        }
    }
    modules.into_iter()
}
