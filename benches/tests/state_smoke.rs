//! The program `state` measures every cell it promises.

mod quick;

use benches::state::{contender, measure::Case};
use quick::quick;

#[test]
fn a_quick_run_fills_every_cell() {
    let cells = quick(env!("CARGO_BIN_EXE_state"), &[]);
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
