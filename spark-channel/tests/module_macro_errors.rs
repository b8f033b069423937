//! What `#[module]` says about a block it cannot make a module of.

#![cfg(feature = "macros")]

#[test]
fn errors_point_at_the_users_line_and_say_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/module_macro_errors/*.rs");
}
