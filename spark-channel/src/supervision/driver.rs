//! A supervisor's task: it tells the decision what has happened, and does what follows.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::{Instant, timeout_at};

use super::{
    branch::{Branch, Shared},
    decision::{Action, Decision, Failure, Place},
    report::{ChildFailure, ChildReport, SupervisorEnd, SupervisorReport},
};
use crate::{
    Stop, StopReason,
    clock::later,
    oversight::{Exit, News, Order},
    stop::{GRACE, Wish},
};

pub(super) struct Driver {
    decision: Decision,
    branches: Vec<Branch>,
    shared: Arc<Shared>,
    /// How the children are being ended, once they are.
    ending: Option<Wish>,
    /// When the deadline of that was seen to have passed.
    overdue: Option<Instant>,
    actions: Vec<Action>,
}

// === impl Driver ===

impl Driver {
    pub(super) const fn new(
        decision: Decision,
        branches: Vec<Branch>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            decision,
            branches,
            shared,
            ending: None,
            overdue: None,
            actions: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) -> SupervisorReport {
        if self.shared.oversight.is_none() {
            self.decision.begin(Instant::now());
        }
        while !self.decision.is_finished() {
            let now = Instant::now();
            self.listen(now);
            let mut actions = std::mem::take(&mut self.actions);
            self.decision.act(now, self.overdue.is_some(), &mut actions);
            let acts = !actions.is_empty();
            for action in actions.drain(..) {
                self.carry_out(action, now);
            }
            self.actions = actions;
            self.publish();
            // What was done may have consequences that nobody rings for.
            if !acts {
                self.wait(now).await;
            }
        }
        self.report().await
    }

    /// Waits until somebody rings, or it is time.
    async fn wait(&self, now: Instant) {
        let mut due = self.decision.next_due(now);
        if let Some(Wish { deadline, .. }) = self.ending {
            let next = self.overdue.map_or(deadline, |since| since + GRACE);
            due = due.into_iter().chain((next > now).then_some(next)).min();
        }
        // A ring between the look and this is kept for it.
        let rung = self.shared.bell.notified();
        match due {
            None => rung.await,
            Some(due) => {
                let _ = timeout_at(due, rung).await;
            }
        }
    }

    fn listen(&mut self, now: Instant) {
        if let Some(oversight) = &self.shared.oversight {
            if self.decision.is_idle() {
                if oversight.take_start(0) {
                    self.decision.begin(now);
                }
            } else if oversight.is_recalled(0) {
                self.decision.recall();
            }
        }
        self.listen_to_children(now);
        if self.decision.is_stopping() && self.ending.is_none() {
            // It has given up.
            self.shared.stop(Wish {
                stop: Stop::AfterCurrent,
                deadline: later(now, self.shared.shutdown_timeout),
            });
        }
        let wish = self.shared.wish();
        if wish != self.ending {
            self.ending = wish;
            self.decision.stop();
            self.hasten(now);
        }
        if self.ending.is_some_and(|wish| now >= wish.deadline) {
            // From when it is seen: those told only now cannot have ended before.
            let since = *self.overdue.get_or_insert(now);
            if now >= since + GRACE {
                self.abandon_all();
            }
        }
    }

    fn listen_to_children(&mut self, now: Instant) {
        let mut any_down = false;
        for (child, branch) in self.branches.iter_mut().enumerate() {
            for replica in 0..branch.oversight.replicas() {
                let place = Place { child, replica };
                match branch.oversight.take_news(replica) {
                    None => {}
                    Some(News::Up) => self.decision.up(place),
                    Some(News::Down(exit)) => {
                        any_down = true;
                        if exit != Exit::Recalled {
                            tracing::warn!(
                                supervisor = &*self.shared.name,
                                child = &**branch.name(),
                                replica,
                                failure = ?exit,
                                "child failed"
                            );
                        }
                        self.decision.down(place, exit, now);
                    }
                }
            }
            if let Some(lost) = branch.ended() {
                self.decision.gone(child, lost);
            }
        }
        if any_down {
            // Whoever has to leave may wait for the one that is down.
            self.branches.iter().for_each(Branch::wake);
        }
    }

    /// Passes a stronger stop, or an earlier deadline, on to those who end already.
    fn hasten(&self, now: Instant) {
        let Some(wish) = self.ending else {
            return;
        };
        for (child, branch) in self.branches.iter().enumerate() {
            if self.decision.is_ending(child) {
                branch.end(wish, None, now);
            }
        }
    }

    fn abandon_all(&mut self) {
        for (child, branch) in self.branches.iter_mut().enumerate() {
            if self.decision.is_ending(child) && branch.is_module() {
                branch.abandon();
                self.decision.gone(child, true);
            }
        }
    }

    fn carry_out(&mut self, action: Action, now: Instant) {
        match action {
            Action::Start(Place { child, replica }) => {
                self.branches[child].order(replica, Order::Start);
            }
            Action::Recall(Place { child, replica }) => {
                self.branches[child].order(replica, Order::Leave);
            }
            Action::Cut(child) => self.branches[child].cut(),
            Action::Abandon(child) => {
                self.branches[child].abandon();
                self.decision.gone(child, true);
            }
            Action::End(child) => {
                let branch = &self.branches[child];
                let wish = self.ending.unwrap_or_else(|| Wish {
                    stop: Stop::AfterCurrent,
                    deadline: later(now, branch.shutdown_timeout()),
                });
                branch.end(wish, self.cause_of(child), now);
            }
            Action::Collapsed(failure) => {
                let exit = failure.map_or(Exit::Recalled, |_| Exit::GaveUp);
                if let Some(failure) = failure {
                    self.trace_giving_up(failure);
                }
                if let Some(oversight) = &self.shared.oversight {
                    oversight.tell(0, News::Down(exit));
                }
            }
            Action::Finished => {}
        }
    }

    /// Tells whoever looks from outside, and the parent, how things stand.
    fn publish(&mut self) {
        let restarts = self.decision.restarts_made();
        self.shared.restarts.store(restarts, Ordering::Relaxed);
        if self.decision.take_complete()
            && let Some(oversight) = &self.shared.oversight
        {
            oversight.tell(0, News::Up);
        }
    }

    /// What ended the child, if that is why all end.
    fn cause_of(&self, child: usize) -> Option<StopReason> {
        let failure = self.decision.gave_up()?;
        match failure.exit {
            _ if failure.child != child => None,
            Some(Exit::Panicked) => Some(StopReason::Panicked),
            Some(Exit::StartFailed) => Some(StopReason::StartFailed),
            Some(Exit::ShutdownMessage | Exit::Recalled | Exit::GaveUp) | None => None,
        }
    }

    fn trace_giving_up(&self, failure: Failure) {
        tracing::error!(
            supervisor = &*self.shared.name,
            child = &**self.branches[failure.child].name(),
            failure = ?ChildFailure::from(failure.exit),
            "supervisor gave up"
        );
    }

    async fn report(mut self) -> SupervisorReport {
        let reason = match (self.decision.gave_up(), self.ending) {
            (Some(failure), _) => {
                self.trace_giving_up(failure);
                SupervisorEnd::GaveUp {
                    child: Arc::clone(self.branches[failure.child].name()),
                    failure: failure.exit.into(),
                }
            }
            (None, Some(wish)) => SupervisorEnd::Requested(wish.stop),
            (None, None) => SupervisorEnd::Deserted,
        };
        let mut children = Vec::with_capacity(self.branches.len());
        for branch in &mut self.branches {
            children.push(branch.reap().await);
        }
        let report = SupervisorReport {
            supervisor: Arc::clone(&self.shared.name),
            reason,
            deadline_passed: children.iter().any(ChildReport::deadline_passed),
            restarts: self.decision.restarts_made(),
            children,
        };
        self.shared.end(report.clone());
        tracing::debug!(
            supervisor = &*report.supervisor,
            reason = ?report.reason,
            restarts = report.restarts,
            "supervisor stopped"
        );
        report
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A task that is aborted has no report, but an end.
        let aborted = self.shared.aborted();
        self.shared.end(aborted);
    }
}
