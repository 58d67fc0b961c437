//! Functions that `#[ktstr_test]` cannot make a test of.

fn main() {}

mod body_async {
    use ktstr::prelude::*;

    #[ktstr_test]
    async fn a_test(_: &Ctx) -> Result<AssertResult> {
//  ^^^^^ the body of a test cannot be `async`
        Ok(AssertResult::pass())
    }
}

mod body_that_is_a_test_already {
    use ktstr::prelude::*;

    #[ktstr_test]
    #[test]
//  ^ #[ktstr_test] makes the `#[test]` itself: remove this one
    fn a_test(_: &Ctx) -> Result<AssertResult> {
        Ok(AssertResult::pass())
    }
}

mod body_without_context {
    use ktstr::prelude::*;

    #[ktstr_test]
    fn a_test() -> Result<AssertResult> {
//     ^^^^^^ the body of a test takes one argument, `ctx: &Ctx`
        Ok(AssertResult::pass())
    }
}

mod body_without_result {
    use ktstr::prelude::*;

    #[ktstr_test]
    fn a_test(_: &Ctx) {}
//     ^^^^^^ the body of a test returns `Result<AssertResult>`
}
