//! What a system owns, and how it is stopped: the last one first, under one deadline.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use super::tree::{Brake, Reporting, Tree};
use crate::{ChildReport, ChildStatus, stop::Wish};

#[derive(Default)]
pub(super) struct Owned {
    state: Mutex<State>,
    /// Held by the shutdown that is under way; another one waits for it.
    ending: AsyncMutex<Ending>,
}

#[derive(Default)]
struct State {
    trees: Vec<Box<dyn Tree>>,
    /// How all is to stop, once it is. Then nothing more is owned.
    wish: Option<Wish>,
    /// Of the tree that is being stopped.
    brake: Option<Brake>,
}

/// How far the shutdown has come. Outlives one that is dropped.
#[derive(Default)]
struct Ending {
    current: Option<Reporting>,
    reports: Vec<ChildReport>,
}

/// What a shutdown has not come to. Dropped, all of it is told to stop.
struct Rest<'a>(&'a Owned);

// === impl Owned ===

impl Owned {
    /// Owns what `tree` makes of `given`, or gives it back, for all is being stopped.
    pub(super) fn add<T>(&self, given: T, tree: impl FnOnce(T) -> Box<dyn Tree>) -> Result<(), T> {
        let mut state = self.state();
        if state.wish.is_some() {
            return Err(given);
        }
        let tree = tree(given);
        state.trees.push(tree);
        Ok(())
    }

    pub(super) fn status(&self) -> Vec<ChildStatus> {
        self.state()
            .trees
            .iter()
            .map(|tree| tree.status())
            .collect()
    }

    /// Stops all, and returns the reports that no other call has returned.
    pub(super) async fn shut_down(&self, wish: Wish) -> Vec<ChildReport> {
        self.hasten(wish);
        let mut ending = self.ending.lock().await;
        let _rest = Rest(self);
        loop {
            if ending.current.is_none() {
                ending.current = self.stop_next();
            }
            let Some(current) = &mut ending.current else {
                break;
            };
            let report = current.await;
            ending.current = None;
            ending.reports.push(report);
        }
        let mut reports = std::mem::take(&mut ending.reports);
        reports.reverse();
        reports
    }

    fn hasten(&self, wish: Wish) {
        let (wish, brake) = {
            let mut state = self.state();
            let wish = state.wish.map_or(wish, |earlier| earlier.and(wish));
            state.wish = Some(wish);
            (wish, state.brake.clone())
        };
        if let Some(brake) = brake {
            brake(wish);
        }
    }

    fn stop_next(&self) -> Option<Reporting> {
        let (tree, wish) = {
            let mut state = self.state();
            state.brake = None;
            let tree = state.trees.pop()?;
            state.brake = Some(tree.brake());
            (tree, state.wish?)
        };
        if wish.deadline <= Instant::now() {
            self.stop_all();
        }
        Some(tree.shutdown(wish))
    }

    fn stop_all(&self) {
        let (wish, brakes): (_, Vec<Brake>) = {
            let state = self.state();
            let brakes = state.trees.iter().rev().map(|tree| tree.brake());
            (state.wish, brakes.collect())
        };
        if let Some(wish) = wish {
            for brake in brakes {
                brake(wish);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Spawning may panic under it, before anything is changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl Drop for State {
    fn drop(&mut self) {
        if self.wish.is_none() {
            for tree in self.trees.iter().rev() {
                tree.let_go();
            }
        }
    }
}

// === impl Rest ===

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.0.stop_all();
    }
}
