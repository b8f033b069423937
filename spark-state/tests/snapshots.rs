//! What is saved is what is restored, and a file holds one whole snapshot at every moment.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use spark_state::{Expiry, Kind, LoadError, SharedState, Snapshot, StateError, StateValue};

/// A directory of its own, removed with what is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("spark-state-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("there is a place for temporary files");
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it is there");
        let names = entries.map(|entry| entry.expect("it can be read").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn through_json(snapshot: &Snapshot) -> Snapshot {
    Snapshot::from_json(&snapshot.to_json()).expect("it was written by the same crate")
}

#[track_caller]
fn check_restored(from: &SharedState, expected: usize) -> SharedState {
    let to = SharedState::new();
    let report = to.restore(&through_json(&from.snapshot()));
    assert_eq!((report.restored, report.refused.len()), (expected, 0));
    to
}

#[test]
fn every_serialisable_kind_survives_and_the_others_are_listed() {
    let state = SharedState::new();
    let values: [(&str, StateValue); 9] = [
        ("none", ().into()),
        ("bool", true.into()),
        ("int", i32::MIN.into()),
        ("long", i64::MAX.into()),
        ("float", 0.1_f32.into()),
        ("double", f64::NEG_INFINITY.into()),
        ("string", "\"quoted\" \u{0} ü".into()),
        ("bytes", Bytes::from_static(b"\0\xff\xfe").into()),
        ("json", json!({"a": [1.1, null, "b"]}).into()),
    ];
    for (key, value) in &values {
        state.insert(*key, value.clone()).expect("there is room");
    }
    state
        .insert("f", StateValue::function(|value| value))
        .expect("there is room");
    state
        .insert("g", StateValue::async_function(std::future::ready))
        .expect("there is room");
    state.insert("any", Arc::new(1_u8)).expect("there is room");

    let snapshot = state.snapshot();
    let skipped: Vec<_> = snapshot
        .skipped()
        .iter()
        .map(|s| (s.key.as_str(), s.kind))
        .collect();
    let expected = [
        ("any", Kind::Any),
        ("f", Kind::FunctionSync),
        ("g", Kind::FunctionAsync),
    ];
    assert_eq!(skipped, expected);
    assert_eq!(through_json(&snapshot), snapshot);

    let restored = check_restored(&state, values.len());
    for (key, value) in values {
        assert_eq!(restored.get::<StateValue>(key), Ok(value));
    }
}

fn nested(levels: usize) -> serde_json::Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

#[test]
fn a_document_that_no_reader_would_take_is_listed_and_spoils_nothing() {
    let state = SharedState::new();
    for levels in [1, 100, 101, 124, 126, 1_000] {
        state
            .insert(format!("{levels:04}"), nested(levels))
            .expect("there is room");
    }
    let snapshot = through_json(&state.snapshot());
    let keys: Vec<_> = snapshot.entries().map(|(key, _)| key.to_owned()).collect();
    assert_eq!(keys, ["0001", "0100"]);
    let skipped = snapshot.skipped().iter().map(|s| (s.key.as_str(), s.kind));
    let expected = ["0101", "0124", "0126", "1000"].map(|key| (key, Kind::Json));
    assert_eq!(skipped.collect::<Vec<_>>(), expected);
}

#[test]
fn a_scope_is_saved_and_restored_under_any_other() {
    let state = SharedState::new();
    state.insert("other", 1_i64).expect("there is room");
    state.scope("a").insert("n", 2_i64).expect("there is room");
    let report = state.scope("b").restore(&state.scope("a").snapshot());
    assert_eq!(report.restored, 1);
    assert_eq!(state.get::<i64>("b/n"), Ok(2));
    assert!(!state.contains("b/other"));
}

#[test]
fn restoring_replaces_what_is_there_and_leaves_the_rest() {
    let state = SharedState::new();
    state.insert("a", 1_i64).expect("there is room");
    let snapshot = state.snapshot();
    state.insert("a", "changed").expect("there is room");
    state.insert("b", "new").expect("there is room");
    assert_eq!(state.restore(&snapshot).restored, 1);
    assert_eq!(state.get::<i64>("a"), Ok(1));
    assert_eq!(state.get::<String>("b").as_deref(), Ok("new"));
}

#[tokio::test(start_paused = true)]
async fn lives_go_on_where_they_were() {
    let minute = Duration::from_secs(60);
    let state = SharedState::new();
    state
        .insert_with("ttl", 1_i64, Expiry::ttl(10 * minute))
        .expect("there is room");
    state
        .insert_with("idle", 1_i64, Expiry::idle(5 * minute))
        .expect("there is room");
    tokio::time::advance(4 * minute).await;

    let restored = check_restored(&state, 2);
    tokio::time::advance(4 * minute).await;
    assert_eq!(restored.get::<i64>("idle"), Ok(1));
    // Six minutes were left, less what the test itself takes.
    tokio::time::advance(2 * minute).await;
    assert!(!restored.contains("ttl"));
    tokio::time::advance(5 * minute).await;
    assert!(!restored.contains("idle"));
}

#[test]
fn what_has_expired_meanwhile_is_not_put_back() {
    let text = r#"{"format": "spark-state/1", "entries": [
        {"key": "ttl", "value": {"kind": "long", "value": 1}, "expires_at": 1000},
        {"key": "idle", "value": {"kind": "long", "value": 1}, "idle": 60000, "idle_at": 1000},
        {"key": "stays", "value": {"kind": "long", "value": 1}, "expires_at": 99999999999999}
    ]}"#;
    let state = SharedState::new();
    let report = state.restore(&Snapshot::from_json(text).expect("it is one"));
    assert_eq!((report.restored, report.expired), (1, 2));
    assert_eq!(state.keys(), ["stays"]);
}

#[test]
fn what_there_is_no_room_for_is_named() {
    let state = SharedState::new();
    state.insert("a", 1_i64).expect("there is room");
    state.insert("b", 2_i64).expect("there is room");
    let small = SharedState::builder().entries_max(1).build();
    let report = small.restore(&state.snapshot());
    assert_eq!(report.restored, 1);
    assert!(matches!(&report.refused[..], [(key, StateError::Full { .. })] if key == "b"));
}

#[test]
fn what_is_no_snapshot_is_an_error() {
    for text in [
        "",
        "[]",
        r#"{"format": "spark-state/2", "entries": []}"#,
        r#"{"format": "spark-state/1", "entries": [{"key": "a"}]}"#,
        r#"{"format": "spark-state/1", "entries": [{"key": "a", "value": {"kind": "int", "value": 3000000000}}]}"#,
        r#"{"format": "spark-state/1", "entries": [{"key": "a", "value": {"kind": "double", "value": "1"}}]}"#,
        r#"{"format": "spark-state/1", "entries": [{"key": "a", "value": {"kind": "bytes", "value": "%"}}]}"#,
        r#"{"format": "spark-state/1", "entries": [{"key": "a", "value": {"kind": "float", "value": 1e300}}]}"#,
        r#"{"format": "spark-state/1", "entries": [{"key": "a", "value": {"kind": "function"}}]}"#,
    ] {
        let error = Snapshot::from_json(text).expect_err(text);
        assert!(matches!(error, LoadError::Malformed(_)), "{text}");
    }
}

#[tokio::test]
async fn a_file_is_replaced_and_nothing_else_is_left() {
    let scratch = Scratch::new("replace");
    let file = scratch.file();
    assert!(
        Snapshot::load(&file)
            .expect_err("it is not there")
            .is_not_found()
    );
    let state = SharedState::new();
    for round in 0..3_i64 {
        state.insert("round", round).expect("there is room");
        state.save(&file).await.expect("there is a place");
        let restored = SharedState::new();
        assert_eq!(
            restored
                .restore(&Snapshot::load(&file).expect("it is there"))
                .restored,
            1
        );
        assert_eq!(restored.get("round"), Ok(round));
    }
    assert_eq!(scratch.names(), ["state.json"]);
}

#[tokio::test]
async fn of_saves_that_race_the_last_one_stays() {
    let scratch = Scratch::new("race");
    let state = SharedState::new();
    for key in 0..200 {
        let text = "x".repeat(key * 10);
        state
            .insert(format!("key/{key}"), text)
            .expect("there is room");
    }
    for round in 0..20 {
        let mut saves = Vec::new();
        for n in 0..8_i64 {
            state.insert("n", round * 8 + n).expect("there is room");
            let mut save = tokio_test::task::spawn(state.save(scratch.file()));
            if save.poll().is_pending() {
                saves.push(save);
            }
        }
        for save in saves {
            save.await.expect("there is a place");
        }
        let saved = Snapshot::load(scratch.file()).expect("it is there");
        let last = saved.entries().find(|(key, _)| *key == "n");
        assert_eq!(last, Some(("n", StateValue::Long(round * 8 + 7))));
    }
}

#[test]
fn a_save_that_fails_leaves_the_former_file_and_nothing_else() {
    let scratch = Scratch::new("fails");
    let state = SharedState::new();
    let directory = scratch.0.join("in-the-way");
    fs::create_dir(&directory).expect("there is a place");
    state
        .snapshot()
        .save(&directory)
        .expect_err("a directory is not replaced");
    state
        .snapshot()
        .save(scratch.0.join("nowhere/state.json"))
        .expect_err("there is no such place");
    state
        .snapshot()
        .save("..")
        .expect_err("it is not the name of a file");
    assert_eq!(scratch.names(), ["in-the-way"]);
}

#[cfg(unix)]
#[test]
fn permissions_and_links_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };

    let scratch = Scratch::new("permissions");
    let (file, link) = (scratch.file(), scratch.0.join("link.json"));
    SharedState::new()
        .snapshot()
        .save(&file)
        .expect("there is a place");
    assert_eq!(mode(&file), 0o600);
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).expect("it is ours");
    symlink(&file, &link).expect("there is a place");

    let state = SharedState::new();
    state.insert("n", 1_i64).expect("there is room");
    state.snapshot().save(&link).expect("there is a place");
    assert_eq!(mode(&file), 0o640);
    assert!(
        fs::symlink_metadata(&link)
            .expect("it is there")
            .is_symlink()
    );
    assert_eq!(Snapshot::load(&file).expect("it is there").len(), 1);
}

/// Kills a process that saves one snapshot after the other, again and again. Each holds 2 000 times
/// the same number; so one that is whole holds one number.
#[cfg(unix)]
#[test]
fn a_process_that_is_killed_leaves_one_whole_snapshot() {
    let scratch = Scratch::new("killed");
    let mut last = 0;
    for round in 0..20 {
        let mut child = saving(&scratch.file(), last);
        let said = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let mut begun = said.filter(|line| line.as_ref().is_ok_and(|line| line == SAVING));
        begun
            .nth(round % 4)
            .expect("it gets that far")
            .expect("it is text");
        // Any moment of what it does then will do.
        for _ in 0..round * 100 {
            thread::yield_now();
        }
        child.kill().expect("it is there");
        child.wait().expect("it was killed");
        match Snapshot::load(scratch.file()) {
            Err(error) if error.is_not_found() => assert_eq!(last, 0),
            Err(error) => panic!(
                "round {round}: {error}: {:?}",
                std::error::Error::source(&error)
            ),
            Ok(snapshot) => {
                assert_eq!(snapshot.len(), 2_000);
                let mut numbers: Vec<i64> = snapshot
                    .entries()
                    .filter_map(|(_, value)| value.get())
                    .collect();
                assert_eq!(numbers.len(), 2_000);
                numbers.dedup();
                assert!(
                    numbers.len() == 1 && numbers[0] >= last,
                    "{numbers:?} after {last}"
                );
                last = numbers[0];
            }
        }
    }
    assert!(last > 0, "no process got as far as to save anything");
}

/// This program again, told by a variable to do what [`saves_until_it_is_killed`] does.
fn saving(file: &Path, from: i64) -> Child {
    Command::new(env::current_exe().expect("it runs"))
        .args(["--exact", "saves_until_it_is_killed"])
        .env(FILE, file)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs already")
}

/// The child's part of the test above. By itself it does nothing.
#[test]
fn saves_until_it_is_killed() {
    let Some(file) = env::var_os(FILE) else {
        return;
    };
    let from: i64 = env::var(FROM)
        .expect("both are set")
        .parse()
        .expect("it is a number");
    let state = SharedState::new();
    // Bounded, for a parent that has not lived to kill it.
    for number in from + 1..from + 100_000 {
        for key in 0..2_000 {
            state
                .insert(format!("key/{key}"), number)
                .expect("there is room");
        }
        // Not `println!`, which the test harness keeps for itself.
        writeln!(io::stdout(), "{SAVING}").expect("somebody listens");
        state.snapshot().save(&file).expect("there is a place");
    }
}

const SAVING: &str = "saving";
const FILE: &str = "SPARK_STATE_TEST_FILE";
const FROM: &str = "SPARK_STATE_TEST_FROM";

fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(".*", inner, 0..4)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn values() -> impl Strategy<Value = StateValue> {
    prop_oneof![
        Just(StateValue::None),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f32>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".*".prop_map(|text: String| text.into()),
        any::<Vec<u8>>().prop_map(Into::into),
        documents().prop_map(Into::into),
    ]
}

proptest! {
    #[test]
    fn what_is_restored_is_what_was_saved(
        entries in prop::collection::btree_map(".*", values(), 0..20),
    ) {
        let state = SharedState::new();
        for (key, value) in &entries {
            state.insert(key, value.clone()).expect("there is room");
        }
        let restored = check_restored(&state, entries.len());
        for (key, value) in &entries {
            prop_assert_eq!(restored.get::<StateValue>(key), Ok(value.clone()));
        }
    }

    #[test]
    fn rubbish_is_refused_without_a_panic(text in ".*") {
        prop_assert!(Snapshot::from_json(&text).is_err());
    }
}
