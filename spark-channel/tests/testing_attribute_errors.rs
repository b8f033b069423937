//! What `#[testing::test]` says about a function it cannot make a test of.

#![cfg(feature = "test-util")]

#[test]
fn errors_point_at_the_users_line_and_say_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/testing_attribute_errors/*.rs");
}
