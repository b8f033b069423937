//! A subscriber that writes down what it is told.

#![allow(dead_code, reason = "each test file uses another part of this one")]

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};
use tracing_core::span::Current;

/// Writes down every span with the spans it stands in, outermost first. One that follows from
/// another has that before it: `sender ~> command(module)`.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Recorded>);

struct Recorded {
    level: Level,
    next: AtomicU64,
    // Paths by id, less one, and so are the metadata.
    paths: Mutex<Vec<String>>,
    metadata: Mutex<Vec<&'static Metadata<'static>>>,
    // One thread: the tests here run on the runtime of one.
    entered: Mutex<Vec<u64>>,
    events: Mutex<Vec<String>>,
}

impl Recorder {
    pub(crate) fn new(level: Level) -> Self {
        // While there is one subscriber alone, tracing decides for all threads by what the thread wants
        // that comes first to a place, and that may be a test without.
        static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
        OTHERS.get_or_init(|| [(); 2].map(|()| Dispatch::new(Self::listening(Level::TRACE))));
        Self::listening(level)
    }

    fn listening(level: Level) -> Self {
        Self(Arc::new(Recorded {
            level,
            next: AtomicU64::new(1),
            paths: Mutex::default(),
            metadata: Mutex::default(),
            entered: Mutex::default(),
            events: Mutex::default(),
        }))
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.paths.lock().expect("no panic under it").clone()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.0.events.lock().expect("no panic under it").clone()
    }

    fn path(&self, id: Option<u64>) -> Option<String> {
        let index = usize::try_from(id? - 1).expect("few spans");
        self.paths().get(index).cloned()
    }

    pub(crate) fn entered(&self) -> Option<u64> {
        let entered = self.0.entered.lock().expect("no panic under it");
        entered.last().copied()
    }
}

/// A span's or an event's text: its name, and the module it is about.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "module" | "name" => self.0.extend(["(", value.trim_matches('"'), ")"]),
            "message" => self.0.extend([": ", &value]),
            _ => {}
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level.into())
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let parent = match span.parent() {
            Some(id) => Some(id.into_u64()),
            None => self.entered().filter(|_| span.is_contextual()),
        };
        let mut text = Text(span.metadata().name().into());
        span.record(&mut text);
        let path = match self.path(parent) {
            Some(parent) => format!("{parent} > {}", text.0),
            None => text.0,
        };
        self.0.paths.lock().expect("no panic under it").push(path);
        let mut metadata = self.0.metadata.lock().expect("no panic under it");
        metadata.push(span.metadata());
        Id::from_u64(self.0.next.fetch_add(1, Ordering::SeqCst))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        let Some(sender) = self.path(Some(follows.into_u64())) else {
            return;
        };
        let index = usize::try_from(span.into_u64() - 1).expect("few spans");
        let mut paths = self.0.paths.lock().expect("no panic under it");
        paths[index] = format!("{sender} ~> {}", paths[index]);
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        let inside = self.path(self.entered()).unwrap_or_default();
        let line = format!("{inside} | {}", text.0);
        self.0.events.lock().expect("no panic under it").push(line);
    }

    fn enter(&self, span: &Id) {
        let mut entered = self.0.entered.lock().expect("no panic under it");
        entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut entered = self.0.entered.lock().expect("no panic under it");
        let last = entered.iter().rposition(|id| *id == span.into_u64());
        entered.remove(last.expect("it was entered"));
    }

    fn current_span(&self) -> Current {
        let Some(id) = self.entered() else {
            return Current::none();
        };
        let index = usize::try_from(id - 1).expect("few spans");
        let metadata = self.0.metadata.lock().expect("no panic under it")[index];
        Current::new(Id::from_u64(id), metadata)
    }
}
