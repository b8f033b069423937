//! The publishers that wait, in the order they came.

use std::{collections::VecDeque, task::Waker};

#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<(u64, Waker)>,
    next: u64,
}

// === impl Line ===

impl Line {
    /// Takes a place in the line, or keeps the one taken; says whether it is the head.
    pub(super) fn stand(&mut self, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        let number = *ticket.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        match self
            .waiting
            .binary_search_by_key(&number, |(number, _)| *number)
        {
            Ok(at) => {
                let (_, old) = &mut self.waiting[at];
                old.clone_from(waker);
                at == 0
            }
            Err(at) => {
                // The numbers grow, so this is the end.
                self.waiting.insert(at, (number, waker.clone()));
                at == 0
            }
        }
    }

    /// Gives up a place; returns the new head, if the old one has gone.
    pub(super) fn leave(&mut self, ticket: &mut Option<u64>) -> Option<Waker> {
        let number = ticket.take()?;
        let at = self
            .waiting
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        self.waiting.remove(at);
        if at == 0 { self.head() } else { None }
    }

    pub(super) fn head(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }

    pub(super) fn wakers(&self) -> Vec<Waker> {
        self.waiting
            .iter()
            .map(|(_, waker)| waker.clone())
            .collect()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}
