//! The program `actors` measures every cell it promises.

mod quick;

use benches::actors::{case::Case, comparison, entrant};
use quick::quick;
use serde_json::Value;

#[test]
fn a_quick_run_fills_every_cell() {
    let names: Vec<&str> = entrant::ALL.iter().map(|entrant| entrant.name).collect();
    let report = quick(env!("CARGO_BIN_EXE_actors"), &["--only", &names.join(",")]);
    let cells = report["cells"].as_array().expect("cells are listed");

    let expected: Vec<(&str, String, u64)> = [1, 2]
        .into_iter()
        .flat_map(|threads| Case::ALL.into_iter().map(move |case| (threads, case)))
        .flat_map(|(threads, case)| {
            let names = entrant::ALL.iter().map(|entrant| entrant.name);
            names.map(move |name| (name, case.to_string(), threads))
        })
        .collect();

    assert_eq!(cells.len(), expected.len());
    for (contender, case, threads) in expected {
        let cell = cells
            .iter()
            .find(|cell| {
                cell["contender"] == contender && cell["case"] == case && cell["threads"] == threads
            })
            .unwrap_or_else(|| panic!("{contender} has no cell for {case} on {threads} threads"));
        let value = cell["value"]["median"]
            .as_f64()
            .expect("a value is a number");
        if case.starts_with("allocations") {
            assert!(value >= 0.0, "{cell}");
        } else {
            assert!(value > 0.0, "{cell}");
        }
        if cell["unit"] == "nanoseconds" {
            let ratio = cell["ratio"]["median"].as_f64();
            assert!(ratio.is_some_and(|ratio| ratio > 0.0), "{cell}");
        }
    }
}

#[test]
fn a_quick_run_makes_every_comparison() {
    let names: Vec<&str> = comparison::ALL.iter().map(|c| c.name).collect();
    let report = quick(env!("CARGO_BIN_EXE_actors"), &["--only", &names.join(",")]);
    let compared = report["comparisons"]
        .as_array()
        .expect("comparisons are listed");

    assert_eq!(report["cells"], Value::Array(Vec::new()));
    assert_eq!(compared.len(), 2 * names.len());
    for (name, threads) in names.iter().flat_map(|name| [(name, 1), (name, 2)]) {
        let row = compared
            .iter()
            .find(|row| row["name"] == *name && row["threads"] == threads)
            .unwrap_or_else(|| panic!("{name} has no ratio on {threads} threads"));
        let ratio = row["ratio"]["median"].as_f64();
        assert!(ratio.is_some_and(|ratio| ratio > 0.0), "{row}");
    }
}

#[test]
fn the_hand_written_loop_allocates_one_reply_slot_per_ask() {
    let flags = "--only baseline --case allocations-ask --threads 1";
    let report = quick(
        env!("CARGO_BIN_EXE_actors"),
        &flags.split(' ').collect::<Vec<_>>(),
    );
    let cells = report["cells"].as_array().expect("cells are listed");

    assert_eq!(cells.len(), 1);
    assert_eq!(cells[0]["value"]["median"], 1.0);
}
