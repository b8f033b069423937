//! A wait for room in the line of a class, and the place it ends with.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::{
    Classes,
    queue::{LineId, Pushed, Ticket},
};

/// Waits for room. Completes with a place to [fill](Place::fill), or with an error
/// when the mailbox is closed.
///
/// Dropping it gives up the turn, or the place promised to it.
#[must_use = "a wait has a turn once it is polled"]
pub(crate) struct Room<'a, T> {
    classes: &'a Classes<T>,
    line: LineId,
    turn: Option<Turn<'a, T>>,
}

/// A place in a line that nobody else can have. Dropping it gives it up.
pub(crate) struct Place<'a, T>(Turn<'a, T>);

struct Turn<'a, T> {
    classes: &'a Classes<T>,
    line: LineId,
    ticket: Ticket,
    /// Nothing to give up any more.
    is_used: bool,
}

// === impl Room ===

impl<'a, T> Room<'a, T> {
    pub(super) const fn new(classes: &'a Classes<T>, line: LineId) -> Self {
        Self {
            classes,
            line,
            turn: None,
        }
    }
}

impl<'a, T> Future for Room<'a, T> {
    type Output = Result<Place<'a, T>, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (classes, line) = (this.classes, this.line);
        let mut state = classes.state();
        let turn = this.turn.get_or_insert_with(|| Turn {
            classes,
            line,
            ticket: state.queue.enqueue(line, cx.waker()),
            is_used: false,
        });
        let polled = state.queue.poll_room(line, turn.ticket, cx);
        drop(state);
        polled.map(|room| {
            let Some(turn) = this.turn.take() else {
                unreachable!("it has had a turn since it was first polled");
            };
            room.map(|()| Place(turn))
        })
    }
}

// === impl Place ===

impl<T> Place<'_, T> {
    /// Puts `message` into the place.
    ///
    /// # Errors
    ///
    /// The message, when the mailbox has been closed meanwhile.
    pub(crate) fn fill(mut self, message: T, key: Option<u64>) -> Result<(), T> {
        let Turn { classes, line, .. } = self.0;
        let (pushed, wake) = {
            let mut state = classes.state();
            let incoming = state.incoming(message, key, classes.arrival());
            let (pushed, wake) = state.queue.fill(line, self.0.ticket, incoming);
            classes.count(&pushed);
            (pushed, wake)
        };
        self.0.is_used = true;
        if let Some(wake) = wake {
            wake.wake();
        }
        match pushed {
            Pushed::Closed(message) => Err(message),
            pushed => {
                classes.settle(pushed);
                Ok(())
            }
        }
    }
}

// === impl Turn ===

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        let wake = self.classes.state().queue.forget(self.line, self.ticket);
        if let Some(wake) = wake {
            wake.wake();
        }
    }
}
