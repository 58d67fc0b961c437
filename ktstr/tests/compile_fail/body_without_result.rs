use ktstr::prelude::*;

#[ktstr_test]
fn a_test(_: &Ctx) {}

fn main() {}
