//! The values of a store, to be kept and put back.

use std::{
    error::Error,
    fmt, io,
    path::Path,
    sync::PoisonError,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

mod file;

use crate::{
    Kind, SharedState, StateError, StateValue, WireValue,
    clock::Moment,
    entry::{Entry, Lifetime},
    store::Draft,
};

use serde::{Deserialize, Serialize};

/// The values of a store as they were when it was taken, as far as they can be written down.
///
/// Every value is whole. Values that change while the snapshot is taken are in it as they were at
/// some moment meanwhile, not all at the same.
///
/// ```
/// use spark_state::{SharedState, Snapshot, StateValue};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let state = SharedState::new();
/// state.insert("hits", 42_i64)?;
/// state.insert("double", StateValue::function(|value| value))?;
///
/// let snapshot = state.snapshot();
/// assert_eq!(snapshot.skipped()[0].key, "double");
///
/// let restored = SharedState::new();
/// let report = restored.restore(&Snapshot::from_json(&snapshot.to_json())?);
/// assert_eq!((report.restored, restored.get::<i64>("hits")?), (1, 42));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    entries: Vec<Saved>,
    skipped: Vec<Skipped>,
}

/// A value that is not in a snapshot, because it [cannot](WireValue) be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Its key.
    pub key: String,
    /// Its kind: a function, or a type of one's own; or JSON, nested too deeply.
    pub kind: Kind,
}

/// What became of the values of a snapshot.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "values may have been refused"]
pub struct Restored {
    /// How many were put under their keys.
    pub restored: usize,
    /// How many had expired meanwhile.
    pub expired: usize,
    /// Those that there was no room for, with why.
    pub refused: Vec<(String, StateError)>,
}

/// Why there is no snapshot in a file or a text.
#[derive(Debug)]
pub enum LoadError {
    /// The file could not be read.
    Read(io::Error),
    /// What is there is no snapshot, or one of a later version.
    Malformed(Box<dyn Error + Send + Sync>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Saved {
    key: String,
    value: WireValue,
    /// Milliseconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle: Option<u64>,
    /// Milliseconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_at: Option<u64>,
}

#[derive(Serialize)]
struct Written<'a> {
    format: &'a str,
    entries: &'a [Saved],
    skipped: Vec<SkippedWire>,
}

#[derive(Deserialize)]
struct Read {
    format: String,
    entries: Vec<Saved>,
    #[serde(default)]
    skipped: Vec<SkippedWire>,
}

#[derive(Serialize, Deserialize)]
struct SkippedWire {
    key: String,
    kind: String,
}

// === impl SharedState ===

impl SharedState {
    /// Takes a snapshot of the values in this scope that can be written down, and lists the others.
    ///
    /// Looks at every entry of the store; the values are shared, not copied.
    ///
    /// # Panics
    ///
    /// Panics within the closure of an [`update`](Self::update).
    pub fn snapshot(&self) -> Snapshot {
        let wall = Wall::now(self.store.clock.now());
        let mut snapshot = Snapshot {
            entries: Vec::new(),
            skipped: Vec::new(),
        };
        self.store.for_each(|name, entry| {
            let Some(key) = self.within(name) else {
                return;
            };
            match WireValue::of_kind(entry.value.clone()) {
                Ok(value) => snapshot.entries.push(Saved::new(key, value, entry, wall)),
                Err(_) => snapshot.skipped.push(Skipped {
                    key: key.to_owned(),
                    kind: entry.value.kind(),
                }),
            }
        });
        // Documents are walked through where no shard is locked.
        for saved in snapshot
            .entries
            .extract_if(.., |saved| saved.value.is_too_deep())
        {
            snapshot.skipped.push(Skipped {
                key: saved.key,
                kind: Kind::Json,
            });
        }
        snapshot.entries.sort_by(|a, b| a.key.cmp(&b.key));
        snapshot.skipped.sort_by(|a, b| a.key.cmp(&b.key));
        snapshot
    }

    /// Puts the values of a snapshot under their keys in this scope, one after the other, in place
    /// of what is there. Other values stay.
    ///
    /// Times to live and idle times go on in between, by the system's clock: what has expired is
    /// not put back. The idle time of what is put back begins anew.
    ///
    /// # Panics
    ///
    /// Panics within the closure of an [`update`](Self::update).
    pub fn restore(&self, snapshot: &Snapshot) -> Restored {
        crate::reentry::assert_outside();
        let now = self.store.clock.now();
        let wall = Wall::now(now);
        let mut report = Restored {
            restored: 0,
            expired: 0,
            refused: Vec::new(),
        };
        for saved in &snapshot.entries {
            let lifetime = saved.lifetime(wall);
            if lifetime.as_ref().is_some_and(|life| life.deadline() <= now) {
                report.expired += 1;
                continue;
            }
            let draft = Draft {
                value: saved.value.clone().into_inner(),
                lifetime,
            };
            match self.store.put(&self.full(&saved.key), draft, |_| Ok(())) {
                Ok(_) => report.restored += 1,
                Err(error) => report.refused.push((saved.key.clone(), error)),
            }
        }
        report
    }

    /// Takes a snapshot and [saves](Snapshot::save) it, on a thread for blocking work. Returns what
    /// was skipped.
    ///
    /// Saves of one store are done one after the other, so none puts an older snapshot in place of a
    /// later one, whoever still waits for it.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::save`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop what has begun: the file is replaced, or it is not.
    pub async fn save(&self, path: impl AsRef<Path>) -> io::Result<Vec<Skipped>> {
        let (state, path) = (self.clone(), path.as_ref().to_owned());
        let saving = tokio::task::spawn_blocking(move || {
            let saves = &state.store.saves;
            let _turn = saves.lock().unwrap_or_else(PoisonError::into_inner);
            let snapshot = state.snapshot();
            snapshot.save(&path)?;
            Ok(snapshot.skipped)
        });
        saving.await.map_err(io::Error::other)?
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Returns how many values are in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no value is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the values with their keys, by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, StateValue)> {
        let entries = self.entries.iter();
        entries.map(|saved| (saved.key.as_str(), saved.value.clone().into_inner()))
    }

    /// Returns what is not in it, by key.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Returns it as JSON, values as [`WireValue`] has them. Read back, every value is what it was,
    /// to the last bit of a number.
    pub fn to_json(&self) -> String {
        let skipped = self.skipped.iter().map(|skipped| SkippedWire {
            key: skipped.key.clone(),
            kind: skipped.kind.name().to_owned(),
        });
        let written = Written {
            format: FORMAT,
            entries: &self.entries,
            skipped: skipped.collect(),
        };
        serde_json::to_string(&written)
            .unwrap_or_else(|error| unreachable!("values that can be written down: {error}"))
    }

    /// Reads what [`to_json`](Self::to_json) has written.
    ///
    /// # Errors
    ///
    /// [`Malformed`](LoadError::Malformed).
    pub fn from_json(json: &str) -> Result<Self, LoadError> {
        let read: Read =
            serde_json::from_str(json).map_err(|error| LoadError::Malformed(error.into()))?;
        if read.format != FORMAT {
            let text = format!("the format is {:?}, not {FORMAT:?}", read.format);
            return Err(LoadError::Malformed(text.into()));
        }
        let skipped = read.skipped.into_iter().filter_map(|skipped| {
            let kinds = [
                Kind::FunctionSync,
                Kind::FunctionAsync,
                Kind::Any,
                Kind::Json,
            ];
            let kind = kinds.into_iter().find(|kind| kind.name() == skipped.kind)?;
            let key = skipped.key;
            Some(Skipped { key, kind })
        });
        Ok(Self {
            skipped: skipped.collect(),
            entries: read.entries,
        })
    }

    /// Writes it to a file, in place of what is there, in one step: whoever reads the file finds
    /// the former snapshot or this one, whole, also after the process was killed or the machine
    /// lost power.
    ///
    /// It is written to a file beside it, `.NAME.RANDOM.tmp`, that then takes its name. One that a
    /// process which was killed has left there may be removed. A new file is its owner's alone; one
    /// that is replaced keeps its permissions, and a symbolic link keeps pointing.
    ///
    /// Blocks; on a runtime there is [`SharedState::save`].
    ///
    /// # Errors
    ///
    /// If the file could not be written. Then the former one is still there, unless it was the last
    /// step that failed, which makes the new one outlast a loss of power.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        file::replace(path.as_ref(), self.to_json().as_bytes())
    }

    /// Reads what [`save`](Self::save) has written. Blocks.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is no snapshot.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let json = std::fs::read_to_string(path).map_err(LoadError::Read)?;
        Self::from_json(&json)
    }
}

// === impl LoadError ===

impl LoadError {
    /// Whether there is no such file, which is how most programs start.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read(_) => "the snapshot cannot be read",
            Self::Malformed(_) => "this is not a snapshot",
        })
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Malformed(error) => Some(&**error),
        }
    }
}

// === impl Saved ===

impl Saved {
    fn new(key: &str, value: WireValue, entry: &Entry, wall: Wall) -> Self {
        let life = entry.lifetime.as_deref();
        Self {
            key: key.to_owned(),
            value,
            expires_at: life.and_then(|life| wall.unix_millis(life.expires_at())),
            idle: life.and_then(|life| millis(life.idle()?)),
            idle_at: life.and_then(|life| wall.unix_millis(life.idle_at())),
        }
    }

    fn lifetime(&self, wall: Wall) -> Option<Box<Lifetime>> {
        if self.expires_at.is_none() && self.idle.is_none() {
            return None;
        }
        let idle_at = self.idle_at.map_or(Moment::NEVER, |at| wall.moment(at));
        let expires_at = match self.expires_at {
            // Nobody has used it in time.
            _ if idle_at <= wall.now => wall.now,
            Some(at) => wall.moment(at),
            None => Moment::NEVER,
        };
        let idle = self.idle.map(Duration::from_millis);
        Some(Box::new(Lifetime::new(expires_at, idle, wall.now)))
    }
}

/// The same moment on the store's clock and on the system's, which goes on between two processes.
#[derive(Clone, Copy)]
struct Wall {
    now: Moment,
    unix: Duration,
}

// === impl Wall ===

impl Wall {
    fn now(now: Moment) -> Self {
        // A system whose clock is before 1970 is not believed.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            now,
            unix: unix.unwrap_or_default(),
        }
    }

    fn unix_millis(self, moment: Moment) -> Option<u64> {
        if moment == Moment::NEVER {
            return None;
        }
        millis(self.unix + moment.since(self.now))
    }

    fn moment(self, unix_millis: u64) -> Moment {
        let left = Duration::from_millis(unix_millis).saturating_sub(self.unix);
        self.now.after(left)
    }
}

fn millis(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_millis()).ok()
}

const FORMAT: &str = "spark-state/1";
