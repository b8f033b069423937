//! The program `instructions` does the work it says it does.

use std::process::Command;

use benches::instructions::{self, Operation};

#[test]
fn every_operation_is_listed_once_and_does_what_it_is_told_to() {
    let listed = stdout_of(&["--list"]);
    let mut names: Vec<&str> = listed.lines().collect();
    assert_eq!(names.len(), Operation::all().count());
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Operation::all().count());

    for name in names {
        let done = figures(&[name, "8192"]);
        assert!(done[0] >= 8192, "{name}: {done:?}");
    }
}

#[test]
fn the_hand_written_loop_allocates_one_reply_slot_per_ask() {
    let few = figures(&["baseline/ask1", "8192", "--allocations"]);
    let many = figures(&["baseline/ask1", "16384", "--allocations"]);

    assert_eq!(many[1] - few[1], many[0] - few[0]);
}

#[test]
fn what_is_compared_in_time_can_be_compared_in_instructions() {
    let names: Vec<&str> = instructions::comparisons().map(|c| c.name).collect();

    for name in [
        "direct-ask",
        "request-all",
        "deadlock-check",
        "module-macro",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

fn figures(arguments: &[&str]) -> Vec<u64> {
    let printed = stdout_of(arguments);
    let figures = printed.split_whitespace().map(str::parse);
    figures
        .collect::<Result<_, _>>()
        .expect("figures are numbers")
}

fn stdout_of(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_instructions"))
        .args(arguments)
        .output()
        .expect("the program is built with the test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the program prints text")
}
