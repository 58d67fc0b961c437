use ktstr::prelude::*;

#[ktstr_test]
#[test]
fn a_test(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
