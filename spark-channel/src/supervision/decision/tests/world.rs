//! The model: what is known of each unit, and what may be decided of it.

use super::*;
use crate::stop::GRACE;

/// What the model knows of a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Down,
    /// Told to start, not up.
    Starting,
    Up,
    /// Told to leave, not down.
    Leaving,
}

/// What the model knows of the whole.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Whole {
    Runs,
    Collapses,
    Idles,
    Stops,
    IsOver,
}

pub(super) struct World {
    setting: Setting,
    decision: Decision,
    now: Instant,
    units: Vec<(Place, Known)>,
    /// When a unit may be started again, at the earliest.
    due: Vec<Instant>,
    proven: Vec<bool>,
    /// Units that are up or starting and have to leave.
    doomed: Vec<bool>,
    ending: Vec<bool>,
    gone: Vec<bool>,
    /// When a child was told that its time to leave is over.
    cut: Vec<Option<Instant>>,
    charged: Vec<Instant>,
    /// Failures in a row, and when the last was to be made good: between these two.
    streaks: Vec<(u32, Option<(Instant, Instant)>)>,
    whole: Whole,
}

// === impl World ===

impl World {
    pub(super) fn new(setting: Setting) -> Self {
        let now = Instant::now();
        let plans: Vec<Plan> = setting
            .children
            .iter()
            .map(|&(restart, replicas)| Plan {
                restart,
                replicas,
                leave_within: Some(LEAVE_WITHIN),
            })
            .collect();
        let mut decision = Decision::new(
            setting.strategy,
            Intensity {
                restarts: setting.restarts,
                within: setting.within,
            },
            Backoff::exponential(FIRST, MAX)
                .jitter(JITTER)
                .reset_after(QUIET),
            setting.nested,
            setting.seed,
            &plans,
            now,
        );
        decision.begin(now);
        let units: Vec<_> = (0..plans.len())
            .flat_map(|child| (0..plans[child].replicas).map(move |replica| (child, replica)))
            .map(|(child, replica)| (Place { child, replica }, Known::Down))
            .collect();
        Self {
            decision,
            now,
            due: vec![now; units.len()],
            proven: vec![false; units.len()],
            doomed: vec![false; units.len()],
            ending: vec![false; plans.len()],
            gone: vec![false; plans.len()],
            cut: vec![None; plans.len()],
            charged: Vec::new(),
            streaks: vec![(0, None); units.len()],
            units,
            setting,
            whole: Whole::Runs,
        }
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Wait(time) => self.wait(time),
            Step::Oversleep(time) => self.now += time,
            Step::Answer { whose, fails } => self.answer(whose, fails),
            Step::Fail { whose, by_message } => {
                let up = self.having(Known::Up);
                if let Some(&unit) = up.get(whose % up.len().max(1)) {
                    let permanent = self.kind_of(unit) == Restart::Permanent;
                    let exit = if by_message && permanent {
                        Exit::ShutdownMessage
                    } else {
                        Exit::Panicked
                    };
                    self.fail(unit, exit);
                }
            }
            Step::Lose(child) => {
                let child = child % self.gone.len();
                if !self.gone[child] {
                    self.lose(child);
                }
            }
            Step::Parent if self.setting.nested => self.hear_from_the_parent(),
            Step::Parent => {}
            Step::Stop => {
                self.decision.stop();
                self.stop();
            }
        }
        self.act();
    }

    /// Lets time pass without skipping what falls due.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.decision.next_due(self.now)
            && due <= until
        {
            assert!(due > self.now, "it would be asked without an end");
            self.now = due;
            self.act();
        }
        self.now = until;
    }

    fn answer(&mut self, whose: usize, fails: bool) {
        let children = 0..self.gone.len();
        let ending: Vec<_> = children
            .filter(|&c| self.ending[c] && !self.gone[c])
            .collect();
        let owing: Vec<_> = (0..self.units.len())
            .filter(|&unit| matches!(self.units[unit].1, Known::Starting | Known::Leaving))
            .filter(|&unit| !self.ending[self.units[unit].0.child])
            .collect();
        let all = ending.len() + owing.len();
        if all == 0 {
            return;
        }
        let chosen = whose % all;
        if let Some(&child) = ending.get(chosen) {
            self.forget(child);
            self.decision.gone(child, false);
            return;
        }
        let unit = owing[chosen - ending.len()];
        let (place, known) = self.units[unit];
        match known {
            Known::Leaving => {
                self.units[unit].1 = Known::Down;
                self.decision.down(place, Exit::Recalled, self.now);
            }
            _ if fails => self.fail(unit, Exit::StartFailed),
            _ => {
                self.units[unit].1 = Known::Up;
                self.proven[unit] = true;
                self.decision.up(place);
            }
        }
    }

    fn fail(&mut self, unit: usize, exit: Exit) {
        let (place, _) = self.units[unit];
        self.units[unit].1 = Known::Down;
        let kind = self.kind_of(unit);
        let spared = self.doomed[unit] || self.whole != Whole::Runs || self.ending[place.child];
        self.doomed[unit] = false;
        if kind == Restart::Temporary && !spared {
            // Its end is expected; which step takes it there does not matter.
            self.decision.down(place, exit, self.now);
            self.doomed[unit] = true;
            return;
        }
        self.decision.down(place, exit, self.now);
        if !spared {
            self.expect_a_restart(unit, exit);
        }
    }

    fn expect_a_restart(&mut self, unit: usize, exit: Exit) {
        let (now, within) = (self.now, self.setting.within);
        self.charged.push(now);
        let counting = self.charged.iter().filter(|at| now - **at < within).count();
        if self.setting.restarts.is_some_and(|most| counting > most) {
            if self.setting.nested {
                self.whole = Whole::Collapses;
            } else {
                self.stop();
            }
            self.doom(0..self.units.len());
            return;
        }
        let child = self.units[unit].0.child;
        let of_child = |(place, _): &(Place, Known)| place.child == child;
        let first = self.units.iter().position(of_child).expect("there");
        let last = self.units.iter().rposition(of_child).expect("there");
        let affected = match self.setting.strategy {
            Strategy::OneForAll => 0..self.units.len(),
            Strategy::RestForOne => first..self.units.len(),
            Strategy::OneForOne if exit == Exit::ShutdownMessage => first..last + 1,
            Strategy::OneForOne => unit..unit + 1,
        };
        let streak = match self.setting.strategy {
            Strategy::OneForOne => unit,
            _ => 0,
        };
        let (failures, until) = &mut self.streaks[streak];
        // Whether it was quiet for long enough depends on the jitter, which the model
        // does not know: both are allowed where both may be.
        let surely_quiet = until.is_some_and(|(_, latest)| now >= latest + QUIET);
        let perhaps_quiet = until.is_some_and(|(earliest, _)| now >= earliest + QUIET);
        if surely_quiet {
            *failures = 0;
        }
        let full = |failures: u32| (FIRST * 2_u32.pow(failures.min(10))).min(MAX);
        let least = full(if perhaps_quiet { 0 } else { *failures });
        let earliest = now + least.mul_f64(1.0 - JITTER);
        let latest = now + full(*failures);
        if perhaps_quiet {
            // From here on the shorter waits are expected, which the longer ones keep.
            *failures = 0;
        }
        *failures += 1;
        *until = Some((earliest, latest));
        self.doom(affected.clone());
        for due in &mut self.due[affected] {
            *due = earliest.max(*due);
        }
    }

    fn doom(&mut self, units: Range<usize>) {
        for unit in units {
            if matches!(self.units[unit].1, Known::Starting | Known::Up) {
                self.doomed[unit] = true;
            }
        }
    }

    fn lose(&mut self, child: usize) {
        let matters = !self.ending[child] && self.setting.children[child].0 != Restart::Temporary;
        self.forget(child);
        self.decision.gone(child, true);
        if matters {
            self.stop();
        }
    }

    fn forget(&mut self, child: usize) {
        self.gone[child] = true;
        for unit in 0..self.units.len() {
            if self.units[unit].0.child == child {
                self.units[unit].1 = Known::Down;
                self.doomed[unit] = false;
            }
        }
    }

    fn hear_from_the_parent(&mut self) {
        if self.decision.is_idle() {
            self.decision.begin(self.now);
            self.whole = Whole::Runs;
            self.charged.clear();
            self.streaks.fill((0, None));
            self.proven.fill(false);
            self.due.fill(self.now);
        } else if self.whole != Whole::Stops {
            self.decision.recall();
            if self.whole == Whole::Runs {
                self.whole = Whole::Collapses;
                self.doom(0..self.units.len());
            }
        }
    }

    pub(super) fn act(&mut self) {
        loop {
            let mut actions = Vec::new();
            self.decision.act(self.now, false, &mut actions);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.check(action);
            }
        }
    }

    fn check(&mut self, action: Action) {
        match action {
            Action::Start(place) => self.check_start(place),
            Action::Recall(place) => self.check_recall(place),
            Action::End(child) => self.check_end(child),
            // Whoever is told to leave here is slow: the next answer is due.
            Action::Cut(child) => {
                assert!(self.owes_an_answer(child));
                self.cut[child] = Some(self.now);
            }
            Action::Abandon(child) => {
                assert!(self.owes_an_answer(child));
                let cut = self.cut[child].expect("it was told");
                assert!(self.now >= cut + GRACE, "it had no time to react");
                let matters = !self.ending[child];
                self.forget(child);
                self.decision.gone(child, true);
                if matters {
                    self.stop();
                }
            }
            Action::Collapsed(_) => {
                assert!(self.setting.nested && self.whole == Whole::Collapses);
                assert!(self.units.iter().all(|(_, known)| *known == Known::Down));
                self.whole = Whole::Idles;
                self.doomed.fill(false);
            }
            Action::Finished => {
                assert!(self.gone.iter().all(|gone| *gone), "somebody is left");
                assert_ne!(self.whole, Whole::IsOver, "twice");
                self.whole = Whole::IsOver;
            }
        }
    }

    fn check_start(&mut self, place: Place) {
        let unit = self.unit(place);
        assert_eq!(self.whole, Whole::Runs, "nothing starts any more");
        assert!(!self.gone[place.child] && !self.ending[place.child]);
        assert_eq!(self.units[unit].1, Known::Down);
        assert!(self.due[unit] <= self.now, "too soon");
        let side_by_side = self.setting.strategy == Strategy::OneForOne;
        for (other, (at, known)) in self.units.iter().enumerate() {
            if at.child < place.child && !self.gone[at.child] && !self.ending[at.child] {
                let ready = if side_by_side {
                    self.proven[other]
                } else {
                    *known == Known::Up
                };
                assert!(ready, "{place:?} before {at:?}");
            }
            let concerns = !side_by_side || at.child == place.child;
            assert!(
                !concerns || *known != Known::Leaving,
                "while another one leaves"
            );
        }
        self.units[unit].1 = Known::Starting;
    }

    fn check_recall(&mut self, place: Place) {
        let unit = self.unit(place);
        assert_ne!(self.whole, Whole::Stops, "it is ended instead");
        assert!(self.doomed[unit], "{place:?} was to be spared");
        assert!(matches!(self.units[unit].1, Known::Up | Known::Starting));
        if self.setting.strategy != Strategy::OneForOne || self.whole == Whole::Collapses {
            self.check_that_nothing_after_lives(place.child);
        }
        self.doomed[unit] = false;
        self.units[unit].1 = Known::Leaving;
    }

    fn check_end(&mut self, child: usize) {
        assert!(!self.gone[child] && !self.ending[child], "twice");
        if self.whole == Whole::Stops {
            for later in child + 1..self.gone.len() {
                assert!(self.gone[later], "{child} before {later}");
            }
        } else {
            let temporary = self.setting.children[child].0 == Restart::Temporary;
            let units = self.units.iter().zip(&self.doomed);
            let mut of_child = units.filter(|((place, _), _)| place.child == child);
            assert!(temporary && of_child.any(|(_, doomed)| *doomed));
        }
        self.ending[child] = true;
        for unit in 0..self.units.len() {
            if self.units[unit].0.child == child {
                self.doomed[unit] = false;
            }
        }
    }

    /// Of those that have to leave, or are leaving, the last child goes first.
    fn check_that_nothing_after_lives(&self, child: usize) {
        for (unit, (place, known)) in self.units.iter().enumerate() {
            let leaves = *known == Known::Leaving || self.doomed[unit];
            assert!(place.child <= child || !leaves, "{child} before {place:?}");
        }
    }

    fn owes_an_answer(&self, child: usize) -> bool {
        let leaving =
            |(place, known): &(Place, Known)| place.child == child && *known == Known::Leaving;
        self.ending[child] || self.units.iter().any(leaving)
    }

    pub(super) fn is_over(&self) -> bool {
        self.whole == Whole::IsOver && self.gone.iter().all(|gone| *gone)
    }

    /// Nothing fails any more, and everybody answers.
    pub(super) fn calm_down(&mut self) {
        for _ in 0..400 {
            self.take(Step::Answer {
                whose: 0,
                fails: false,
            });
            self.take(Step::Wait(10 * MS));
        }
    }

    pub(super) fn check_the_end(&self) {
        match self.whole {
            Whole::Runs => {}
            Whole::Idles | Whole::IsOver => return,
            Whole::Collapses | Whole::Stops => panic!("it {:?}, without an end", self.whole),
        }
        for (place, known) in &self.units {
            assert!(
                self.gone[place.child] || *known == Known::Up,
                "{place:?} is {known:?}"
            );
        }
        // More would have been too many.
        if let Some(most) = self.setting.restarts {
            for (index, at) in self.charged.iter().enumerate() {
                let window = self.charged[index..]
                    .iter()
                    .take_while(|later| **later - *at < self.setting.within);
                assert!(window.count() <= most);
            }
        }
        assert_eq!(self.decision.next_due(self.now), None);
    }

    fn stop(&mut self) {
        if self.whole != Whole::IsOver {
            self.whole = Whole::Stops;
        }
    }

    fn having(&self, wanted: Known) -> Vec<usize> {
        let units = (0..self.units.len()).filter(|&unit| self.units[unit].1 == wanted);
        units
            .filter(|&unit| !self.ending[self.units[unit].0.child])
            .collect()
    }

    fn kind_of(&self, unit: usize) -> Restart {
        self.setting.children[self.units[unit].0.child].0
    }

    fn unit(&self, place: Place) -> usize {
        let found = self.units.iter().position(|(at, _)| *at == place);
        found.expect("there is such a unit")
    }
}
