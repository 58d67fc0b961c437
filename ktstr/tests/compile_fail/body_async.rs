use ktstr::prelude::*;

#[ktstr_test]
async fn a_test(_: &Ctx) -> Result<AssertResult> {
    Ok(AssertResult::pass())
}

fn main() {}
