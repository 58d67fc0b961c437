//! What `#[ktstr_test]` and `declare_scheduler!` accept, and each error that they make of the rest.

#[test]
fn every_bad_attribute_is_an_error_that_points_at_its_key() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_pass/*.rs");
    cases.compile_fail("tests/compile_fail/*.rs");
}
