//! One method of a mock that `#[module(mock)]` defines.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

/// One method of a mock: its answers are programmed and its calls recorded. Clones share
/// both.
pub struct MockedMethod<Given, Answer> {
    name: &'static str,
    shared: Arc<Shared<Given, Answer>>,
}

struct Shared<Given, Answer> {
    state: Mutex<State<Given, Answer>>,
    /// Notified when a program has ended, or there is a new one.
    is_free: Condvar,
}

struct State<Given, Answer> {
    /// Absent while it runs.
    program: Option<Program<Given, Answer>>,
    /// Where the program runs, if it does.
    runs_on: Option<ThreadId>,
    /// Counts the programs, so that a running one does not replace its successor.
    version: u64,
    calls: Vec<Given>,
}

type Program<Given, Answer> = Box<dyn FnMut(Given) -> Answer + Send>;

/// A program that runs; goes back when this is dropped, also by a panic.
struct Running<'a, Given, Answer> {
    shared: &'a Shared<Given, Answer>,
    program: Option<Program<Given, Answer>>,
    version: u64,
}

// === impl MockedMethod ===

impl<Given, Answer> MockedMethod<Given, Answer> {
    /// A method without answers.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let state = State {
            program: None,
            runs_on: None,
            version: 0,
            calls: Vec::new(),
        };
        Self {
            name,
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                is_free: Condvar::new(),
            }),
        }
    }

    /// Answers with what `program` returns, from now on.
    pub fn program(&self, program: impl FnMut(Given) -> Answer + Send + 'static) {
        let before = {
            let mut state = self.shared.lock();
            state.version += 1;
            state.runs_on = None;
            state.program.replace(Box::new(program))
        };
        self.shared.is_free.notify_all();
        // It owns what is the user's, and not under the lock.
        drop(before);
    }

    /// What the method was called with, in order, each as `copy` makes it.
    #[must_use]
    pub fn calls(&self, copy: impl Fn(&Given) -> Given) -> Vec<Given> {
        self.shared.lock().calls.iter().map(copy).collect()
    }

    /// Records the call and answers it as programmed; a call from another thread waits until
    /// this one is answered.
    ///
    /// # Panics
    ///
    /// Panics if it was not programmed, or is called by its own program.
    pub fn call(&self, recorded: Given, given: Given) -> Answer {
        let name = self.name;
        self.answer(recorded, given).unwrap_or_else(|| {
            panic!("`{name}` was called, but the mock has no answer: give it one with `on_{name}`")
        })
    }

    /// Records the call and answers it as programmed, or else with `answer`.
    pub fn call_or(&self, recorded: Given, given: Given, answer: Answer) -> Answer {
        self.answer(recorded, given).unwrap_or(answer)
    }

    fn answer(&self, recorded: Given, given: Given) -> Option<Answer> {
        let mut running = self.shared.take(recorded)?;
        let program = running.program.as_mut()?;
        // The user's code, which may use the mock: not under the lock.
        Some(program(given))
    }
}

impl<Given, Answer> Clone for MockedMethod<Given, Answer> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<Given, Answer> fmt::Debug for MockedMethod<Given, Answer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockedMethod")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl<Given, Answer> Shared<Given, Answer> {
    /// Records a call, and takes the program once no other thread runs it.
    fn take(&self, recorded: Given) -> Option<Running<'_, Given, Answer>> {
        let here = thread::current().id();
        let mut state = self.lock();
        state.calls.push(recorded);
        while state.runs_on.is_some_and(|thread| thread != here) {
            let woken = self.is_free.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        let program = Some(state.program.take()?);
        state.runs_on = Some(here);
        Some(Running {
            shared: self,
            program,
            version: state.version,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<Given, Answer>> {
        // Only moves and copies happen under the lock; a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Running ===

impl<Given, Answer> Drop for Running<'_, Given, Answer> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.version == self.version {
            state.program = self.program.take();
            state.runs_on = None;
            drop(state);
            self.shared.is_free.notify_all();
        }
    }
}
