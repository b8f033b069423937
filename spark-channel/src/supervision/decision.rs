//! What a supervisor decides: events and the time in, actions out. No tasks, no
//! clocks, no channels.
//!
//! A child is one or more *units*, its replicas, each of which has a handler or has
//! none. Every event only notes what is to become of which unit; [`Decision::act`]
//! then looks at all of them and says what can be done now. The rules:
//!
//! 1. Handlers leave in reverse order of their children and start in order, one
//!    child after the other, each when the one before it is done. Only one-for-one
//!    restarts children side by side, once each has been up.
//! 2. Nothing is started while anything that was told to leave has not left.
//! 3. A failure is charged once, to the unit that failed by itself. What leaves, or
//!    fails, because of another's failure is not charged.
//! 4. What waits for its restart is due at the latest time any failure set for it.

use std::{ops::Range, time::Duration};

use tokio::time::Instant;

use super::{
    charges::Charges,
    leave::{Leave, Overdue},
    policy::{Backoff, Intensity, Strategy},
    streak::{Chance, Streak},
};
use crate::{
    clock::later,
    oversight::{Exit, Restart},
};

/// The state of one supervisor.
#[derive(Debug)]
pub(crate) struct Decision {
    strategy: Strategy,
    charges: Charges,
    backoff: Backoff,
    /// Whether giving up leaves the children in place, for a parent to restart.
    nested: bool,
    chance: Chance,
    phase: Phase,
    children: Vec<Child>,
    units: Vec<Unit>,
    /// One per unit, or one for all where failures restart several together.
    streaks: Vec<Streak>,
    gave_up: Option<Failure>,
    restarts_made: u64,
    /// Whether it has been said that all children have started.
    complete: bool,
}

/// What the supervisor is to know of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) restart: Restart,
    pub(crate) replicas: usize,
    /// How long a handler that was told to leave may take; `None` if it sees to
    /// that itself.
    pub(crate) leave_within: Option<Duration>,
}

/// A replica of a child, both by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) child: usize,
    pub(crate) replica: usize,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start(Place),
    /// Have the handler stopped and dropped; answered by `down`.
    Recall(Place),
    /// The child's handlers have not left in time: drop what they do.
    Cut(usize),
    /// Not even that helped. The child is lost.
    Abandon(usize),
    /// End the child for good; answered by `gone`.
    End(usize),
    /// All handlers have left: tell the parent. The failure, if it is one.
    Collapsed(Option<Failure>),
    /// All children are gone.
    Finished,
}

/// Why a supervisor could not go on: which child, and what was the last straw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) child: usize,
    pub(crate) exit: Option<Exit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits to be begun.
    Idle,
    Running,
    /// Handlers leave, none starts.
    Collapsing(Option<Failure>),
    Stopping,
    Finished,
}

#[derive(Debug)]
struct Child {
    plan: Plan,
    units: Range<usize>,
    life: Life,
    leave: Option<Leave>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    /// Told to end.
    Ending,
    Gone,
}

#[derive(Debug)]
struct Unit {
    child: usize,
    state: State,
    /// To leave when its turn comes.
    marked: bool,
    /// Whether it has ever been up.
    proven: bool,
    due: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Starting,
    Up,
    Leaving,
}

// === impl Decision ===

impl Decision {
    pub(crate) fn new(
        strategy: Strategy,
        intensity: Intensity,
        backoff: Backoff,
        nested: bool,
        seed: u64,
        plans: &[Plan],
        now: Instant,
    ) -> Self {
        let mut units = Vec::new();
        let mut children = Vec::new();
        for (child, plan) in plans.iter().enumerate() {
            let first = units.len();
            units.extend((0..plan.replicas).map(|_| Unit {
                child,
                state: State::Down,
                marked: false,
                proven: false,
                due: now,
            }));
            children.push(Child {
                plan: *plan,
                units: first..units.len(),
                life: Life::Alive,
                leave: None,
            });
        }
        let streaks = match strategy {
            Strategy::OneForOne => units.len(),
            Strategy::OneForAll | Strategy::RestForOne => 1,
        };
        Self {
            strategy,
            charges: Charges::new(intensity),
            backoff,
            nested,
            chance: Chance::new(seed),
            phase: Phase::Idle,
            children,
            units,
            streaks: vec![Streak::default(); streaks],
            gave_up: None,
            restarts_made: 0,
            complete: false,
        }
    }

    // --- events

    /// Starts the children, or starts them again after a collapse. The intensity and
    /// the backoff begin anew.
    pub(crate) fn begin(&mut self, now: Instant) {
        if self.phase != Phase::Idle {
            return;
        }
        self.phase = Phase::Running;
        self.complete = false;
        self.charges.clear();
        self.streaks.fill(Streak::default());
        for unit in &mut self.units {
            unit.proven = false;
            unit.due = now;
        }
    }

    pub(crate) fn up(&mut self, place: Place) {
        let index = self.index(place);
        let unit = &mut self.units[index];
        if unit.state == State::Starting {
            unit.state = State::Up;
            unit.proven = true;
        }
    }

    pub(crate) fn down(&mut self, place: Place, exit: Exit, now: Instant) {
        let index = self.index(place);
        let unit = &mut self.units[index];
        let by_itself = !unit.marked && matches!(unit.state, State::Starting | State::Up);
        match unit.state {
            State::Down => return,
            // An answer to an earlier order to leave.
            State::Starting | State::Up if exit == Exit::Recalled => return,
            State::Starting | State::Up | State::Leaving => {}
        }
        unit.state = State::Down;
        unit.marked = false;
        let child = &mut self.children[place.child];
        let mut units = self.units[child.units.clone()].iter();
        if child.life == Life::Alive && !units.any(|unit| unit.state == State::Leaving) {
            child.leave = None;
        }
        if by_itself && self.phase == Phase::Running && child.life == Life::Alive {
            self.failed(place, exit, now);
        }
    }

    /// The child has ended. `lost` if it did not end as it should.
    pub(crate) fn gone(&mut self, child: usize, lost: bool) {
        let ended = &mut self.children[child];
        let expected = std::mem::replace(&mut ended.life, Life::Gone) != Life::Alive;
        ended.leave = None;
        let comes_back = ended.plan.restart != Restart::Temporary;
        for unit in &mut self.units[ended.units.clone()] {
            unit.state = State::Down;
            unit.marked = false;
        }
        if lost && !expected && comes_back && self.phase != Phase::Finished {
            // Its mailbox is gone, so nobody can bring it back in its place.
            self.give_up(Failure { child, exit: None });
        }
    }

    /// Has all handlers leave, for the parent restarts this supervisor.
    pub(crate) fn recall(&mut self) {
        if self.phase == Phase::Running {
            self.collapse(None);
        }
    }

    /// Ends all children, in reverse order.
    pub(crate) fn stop(&mut self) {
        if self.phase != Phase::Finished {
            self.phase = Phase::Stopping;
        }
    }

    // --- what follows

    /// Adds what can be done now to `actions`.
    pub(crate) fn act(&mut self, now: Instant, deadline_passed: bool, actions: &mut Vec<Action>) {
        if self.enforce_leaving(now, actions) {
            // What is lost may be the end of all: nothing is started before that is known.
            return;
        }
        match self.phase {
            Phase::Idle | Phase::Finished => {}
            Phase::Stopping => self.end_in_reverse(deadline_passed, actions),
            Phase::Running => {
                if self.leave_in_reverse(now, actions) {
                    self.start_in_order(now, actions);
                }
                self.finish_if_deserted(actions);
            }
            Phase::Collapsing(failure) => {
                let left = self.leave_in_reverse(now, actions);
                if left && self.units.iter().all(|unit| unit.state == State::Down) {
                    self.phase = Phase::Idle;
                    actions.push(Action::Collapsed(failure));
                }
            }
        }
    }

    /// When there may be something to do though nothing happens, after `now`, at
    /// which everything has been done.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let leaving = self.children.iter();
        let leaving = leaving.filter_map(|child| Some(child.leave.as_ref()?.next_due()));
        let waiting = self.units.iter().filter_map(|unit| {
            let waits = self.phase == Phase::Running
                && unit.state == State::Down
                && self.children[unit.child].life == Life::Alive;
            waits.then_some(unit.due)
        });
        // What is due already waits for something else to happen.
        leaving.chain(waiting).filter(|due| *due > now).min()
    }

    /// Whether it waits to be begun.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether its children are ended for good.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping | Phase::Finished)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Whether the child has been told to end and has not.
    pub(crate) fn is_ending(&self, child: usize) -> bool {
        self.children[child].life == Life::Ending
    }

    /// How many failures were answered with a restart.
    pub(crate) fn restarts_made(&self) -> u64 {
        self.restarts_made
    }

    /// Whether all children have started; once after each beginning.
    pub(crate) fn take_complete(&mut self) -> bool {
        let up =
            |unit: &Unit| unit.state == State::Up || self.children[unit.child].life != Life::Alive;
        let complete = !self.complete && self.phase == Phase::Running && self.units.iter().all(up);
        self.complete |= complete;
        complete
    }

    /// Why it ended its children without having been told to.
    pub(crate) fn gave_up(&self) -> Option<Failure> {
        self.gave_up
    }

    // --- a failure

    fn failed(&mut self, place: Place, exit: Exit, now: Instant) {
        let Place { child, .. } = place;
        let index = self.index(place);
        if self.children[child].plan.restart == Restart::Temporary {
            self.units[index].marked = true;
            return;
        }
        if self.charges.add(now) {
            let exit = Some(exit);
            self.give_up(Failure { child, exit });
            return;
        }
        self.restarts_made += 1;
        let due = later(now, self.delay(index, now));
        let affected = match self.strategy {
            Strategy::OneForAll => 0..self.units.len(),
            Strategy::RestForOne => self.children[child].units.start..self.units.len(),
            // Whoever sent it meant the child, and not one replica.
            Strategy::OneForOne if exit == Exit::ShutdownMessage => {
                self.children[child].units.clone()
            }
            Strategy::OneForOne => index..index + 1,
        };
        for unit in &mut self.units[affected] {
            unit.due = unit.due.max(due);
            unit.marked |= matches!(unit.state, State::Starting | State::Up);
        }
    }

    fn delay(&mut self, unit: usize, now: Instant) -> Duration {
        let one = match self.strategy {
            Strategy::OneForOne => unit,
            Strategy::OneForAll | Strategy::RestForOne => 0,
        };
        self.streaks[one].fail(&self.backoff, &mut self.chance, now)
    }

    fn give_up(&mut self, failure: Failure) {
        // A child that is lost is lost for the parent, too.
        if self.nested && failure.exit.is_some() {
            self.collapse(Some(failure));
        } else if !self.is_stopping() {
            self.gave_up = Some(failure);
            self.phase = Phase::Stopping;
        }
    }

    fn collapse(&mut self, failure: Option<Failure>) {
        self.phase = Phase::Collapsing(failure);
        for unit in &mut self.units {
            unit.marked |= matches!(unit.state, State::Starting | State::Up);
        }
    }

    // --- step by step

    /// Says whether any child is to be abandoned.
    fn enforce_leaving(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let mut abandons = false;
        for (index, child) in self.children.iter_mut().enumerate() {
            match child.leave.as_mut().and_then(|leave| leave.enforce(now)) {
                None => {}
                Some(Overdue::Cut) => actions.push(Action::Cut(index)),
                Some(Overdue::Abandon) => {
                    child.leave = None;
                    abandons = true;
                    actions.push(Action::Abandon(index));
                }
            }
        }
        abandons
    }

    /// Recalls what is marked, and says whether nothing is left to wait for.
    fn leave_in_reverse(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let side_by_side = self.is_side_by_side();
        let mut all_left = true;
        for (index, child) in self.children.iter_mut().enumerate().rev() {
            let units = &mut self.units[child.units.clone()];
            if child.life == Life::Alive && units.iter().any(|unit| unit.marked) {
                let by = child.plan.leave_within.map(|within| later(now, within));
                child.leave = by.map(Leave::by);
                if child.plan.restart == Restart::Temporary {
                    child.life = Life::Ending;
                    actions.push(Action::End(index));
                } else {
                    for (replica, unit) in units.iter_mut().enumerate() {
                        if std::mem::take(&mut unit.marked) {
                            unit.state = State::Leaving;
                            let child = index;
                            actions.push(Action::Recall(Place { child, replica }));
                        }
                    }
                }
            }
            let leaves =
                child.life == Life::Ending || units.iter().any(|unit| unit.state == State::Leaving);
            all_left &= !leaves;
            if leaves && !side_by_side {
                return false;
            }
        }
        all_left || side_by_side
    }

    fn start_in_order(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let side_by_side = self.is_side_by_side();
        for (index, child) in self.children.iter().enumerate() {
            if child.life != Life::Alive {
                continue;
            }
            let units = &mut self.units[child.units.clone()];
            let leaves = |unit: &Unit| unit.state == State::Leaving;
            if !units.iter().any(leaves) {
                for (replica, unit) in units.iter_mut().enumerate() {
                    if unit.state == State::Down && unit.due <= now {
                        unit.state = State::Starting;
                        let child = index;
                        actions.push(Action::Start(Place { child, replica }));
                    }
                }
            }
            let holds_up = |unit: &Unit| {
                if side_by_side {
                    !unit.proven
                } else {
                    unit.state != State::Up
                }
            };
            if units.iter().any(holds_up) {
                return;
            }
        }
    }

    fn end_in_reverse(&mut self, deadline_passed: bool, actions: &mut Vec<Action>) {
        for (index, child) in self.children.iter_mut().enumerate().rev() {
            match child.life {
                Life::Gone => continue,
                Life::Ending => {}
                Life::Alive => {
                    child.life = Life::Ending;
                    child.leave = None;
                    actions.push(Action::End(index));
                }
            }
            if !deadline_passed {
                return;
            }
        }
        self.finish_if_deserted(actions);
    }

    fn finish_if_deserted(&mut self, actions: &mut Vec<Action>) {
        if self.children.iter().all(|child| child.life == Life::Gone) {
            self.phase = Phase::Finished;
            actions.push(Action::Finished);
        }
    }

    fn is_side_by_side(&self) -> bool {
        self.strategy == Strategy::OneForOne && self.phase == Phase::Running
    }

    fn index(&self, place: Place) -> usize {
        self.children[place.child].units.start + place.replica
    }
}

#[cfg(test)]
mod tests;
