//! The program `http` measures every figure it promises.

mod quick;

use quick::quick;
use serde_json::Value;

#[test]
fn a_quick_run_fills_every_row() {
    let measured = quick(env!("CARGO_BIN_EXE_http"), &[]);
    let rows = measured["rows"].as_array().expect("rows are listed");

    let named: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (text(&row["measure"]), text(&row["contender"])))
        .collect();
    let expected: Vec<(&str, &str)> = MEASURES
        .into_iter()
        .flat_map(|measure| CONTENDERS.map(|contender| (measure, contender)))
        .collect();
    assert_eq!(named, expected);
    for row in rows {
        assert!(row["median"].is_number(), "{row}");
        assert!(row["spread"].is_number(), "{row}");
        assert_eq!(row["asked"].is_null(), row["reached"].is_null(), "{row}");
    }
    for row in rows
        .iter()
        .filter(|row| row["measure"] != "bytes_left_by_unknown_names")
    {
        let is_axum = row["contender"] == "axum";
        assert_eq!(row["ratio"].is_null(), is_axum, "{row}");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().expect("names are strings")
}

const MEASURES: [&str; 5] = [
    "requests_per_second",
    "median_microseconds",
    "p99_microseconds",
    "bytes_per_idle_connection",
    "bytes_left_by_unknown_names",
];

const CONTENDERS: [&str; 4] = ["axum", "spark", "spark-fn", "spark-key"];
