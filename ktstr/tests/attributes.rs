//! Each error of `#[ktstr_test]` and `declare_scheduler!`. What they accept is in `accepted.rs`: a passing case here
//! would have trybuild compile all of ktstr to code once more.

#[test]
fn every_bad_attribute_is_an_error_that_points_at_its_key() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
