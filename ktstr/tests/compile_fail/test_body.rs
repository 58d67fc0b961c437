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

mod body_const {
    use ktstr::prelude::*;

    #[ktstr_test]
    const fn a_test(ctx: &Ctx) -> Result<AssertResult> {
//  ^^^^^ the body of a test cannot be `const`
        execute_defs(ctx, vec![])
    }
}

mod body_unsafe {
    use ktstr::prelude::*;

    #[ktstr_test]
    unsafe fn a_test(ctx: &Ctx) -> Result<AssertResult> {
//            ^^^^^^ the body of a test is a plain safe Rust function
        execute_defs(ctx, vec![])
    }
}

mod body_generic {
    use ktstr::prelude::*;

    #[ktstr_test]
    fn a_test<T>(ctx: &Ctx) -> Result<AssertResult> {
//           ^ the body of a test cannot be generic
        execute_defs(ctx, vec![])
    }
}

mod body_of_two {
    use ktstr::prelude::*;

    #[ktstr_test]
    fn a_test(ctx: &Ctx, more: u8) -> Result<AssertResult> {
//            ^^^ the body of a test takes one argument, `ctx: &Ctx`
        execute_defs(ctx, vec![])
    }
}

mod body_ignored_by_an_attribute {
    use ktstr::prelude::*;

    #[ktstr_test]
    #[ignore]
//  ^ write `ignore` among the keys of #[ktstr_test]
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod body_that_should_panic {
    use ktstr::prelude::*;

    #[ktstr_test]
    #[should_panic]
//  ^ a test that must fail says `expect_err` among the keys of #[ktstr_test]
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
