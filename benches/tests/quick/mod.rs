//! What the tests of the programs share.

use std::process::Command;

use serde_json::Value;

/// What a quick run of `program`, one of this package's, prints as JSON.
pub(crate) fn quick(program: &str, flags: &[&str]) -> Value {
    let output = Command::new(program)
        .args(["--quick", "--json"])
        .args(flags)
        .output()
        .expect("the program is built with the test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("--json prints JSON")
}
