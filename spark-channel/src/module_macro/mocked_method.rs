//! One method of a mock that `#[module(mock)]` defines.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A method whose answers are programmed and whose calls are recorded. Clones share both.
pub struct MockedMethod<Given, Answer> {
    name: &'static str,
    state: Arc<Mutex<State<Given, Answer>>>,
}

struct State<Given, Answer> {
    program: Option<Program<Given, Answer>>,
    /// Counts the programs, so that a running one does not replace its successor.
    version: u64,
    calls: Vec<Given>,
}

type Program<Given, Answer> = Box<dyn FnMut(Given) -> Answer + Send>;

// === impl MockedMethod ===

impl<Given, Answer> MockedMethod<Given, Answer> {
    /// A method without answers.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            state: Arc::new(Mutex::new(State {
                program: None,
                version: 0,
                calls: Vec::new(),
            })),
        }
    }

    /// Answers with what `program` returns, from now on.
    pub fn program(&self, program: impl FnMut(Given) -> Answer + Send + 'static) {
        let mut state = self.lock();
        state.version += 1;
        state.program = Some(Box::new(program));
    }

    /// What the method was called with, in order, each as `copy` makes it.
    #[must_use]
    pub fn calls(&self, copy: impl Fn(&Given) -> Given) -> Vec<Given> {
        self.lock().calls.iter().map(copy).collect()
    }

    /// Records the call and answers it as programmed.
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
        let (version, mut program) = {
            let mut state = self.lock();
            state.calls.push(recorded);
            (state.version, state.program.take()?)
        };
        // The user's code, which may use the mock: not under the lock.
        let answer = program(given);
        let mut state = self.lock();
        if state.version == version {
            state.program = Some(program);
        }
        Some(answer)
    }

    fn lock(&self) -> MutexGuard<'_, State<Given, Answer>> {
        // Only moves and copies happen under the lock; a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Given, Answer> Clone for MockedMethod<Given, Answer> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            state: Arc::clone(&self.state),
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
