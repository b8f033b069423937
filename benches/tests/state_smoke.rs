//! The program `state` measures every cell it promises.

use std::process::Command;

use benches::state::{contender, measure::Case};
use serde_json::Value;

#[test]
fn a_quick_run_fills_every_cell() {
    let output = Command::new(env!("CARGO_BIN_EXE_state"))
        .args(["--quick", "--json"])
        .output()
        .expect("the program is built with the test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let cells: Value = serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    let cells = cells.as_array().expect("cells are listed");

    assert_eq!(
        cells.len(),
        Case::all(&[1, 2, 4]).len() * contender::ALL.len()
    );
    for cell in cells {
        for figure in ["nanoseconds", "ratio"] {
            let value = cell[figure].as_f64();
            assert!(value.is_some_and(|value| value > 0.0), "{cell}");
        }
    }
}
