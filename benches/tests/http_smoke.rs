//! The program `http` measures every figure it promises.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_quick_run_fills_every_row() {
    let output = Command::new(env!("CARGO_BIN_EXE_http"))
        .args(["--quick", "--json"])
        .output()
        .expect("the program is built with the test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let rows: Value = serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    let rows = rows.as_array().expect("rows are listed");

    let names: Vec<_> = rows.iter().map(|row| &row["contender"]).collect();
    assert_eq!(names, ["axum", "spark", "spark-fn"]);
    for row in rows {
        for figure in ["requests_per_second", "p99_microseconds"] {
            for part in ["median", "ratio"] {
                let value = row[figure][part].as_f64();
                assert!(value.is_some_and(|value| value > 0.0), "{row}");
            }
        }
        assert!(row["bytes_per_idle_connection"].is_number(), "{row}");
        assert!(row["bytes_left_by_unknown_names"].is_number(), "{row}");
    }
}
