use ktstr::prelude::*;

#[ktstr_test]
fn a_test() -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
