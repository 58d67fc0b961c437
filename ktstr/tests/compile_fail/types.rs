//! What only the type check finds, after the macros.

fn main() {}

mod check_of_another_type {
    use ktstr::prelude::*;

    fn wrong(_: &Trace) {}

    #[ktstr_test(check = wrong)]
//                       ^^^^^ mismatched types: incorrect number of function parameters
//    note: expected fn pointer `for<'a, 'b> fn(&'a ktstr::prelude::Trace, &'b mut Verdict) -> std::result::Result<(), anyhow::Error>`
//          found fn item `for<'a> fn(&'a ktstr::prelude::Trace) -> () {wrong}`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod body_that_returns_another_type {
    use ktstr::prelude::*;

    #[ktstr_test]
    fn a_test(_: &Ctx) -> Result<()> {
//     ^^^^^^ mismatched types: expected fn pointer, found fn item
//    note: expected fn pointer `for<'a> fn(&'a ktstr::prelude::Ctx) -> std::result::Result<ktstr::prelude::AssertResult, _>`
//          found fn item `for<'a> fn(&'a ktstr::prelude::Ctx) -> std::result::Result<(), _> {body_that_returns_another_type::__KTSTR_TEST_a_test::a_test}`
        Ok(())
    }
}

mod body_that_takes_the_context_itself {
    use ktstr::prelude::*;

    #[ktstr_test]
    fn a_test(_: Ctx) -> Result<AssertResult> {
//     ^^^^^^ mismatched types: expected fn pointer, found fn item
//    note: expected fn pointer `for<'a> fn(&'a ktstr::prelude::Ctx) -> std::result::Result<_, _>`
//          found fn item `fn(ktstr::prelude::Ctx) -> std::result::Result<_, _> {body_that_takes_the_context_itself::__KTSTR_TEST_a_test::a_test}`
        Ok(AssertResult::pass())
    }
}

mod scheduler_of_another_type {
    use ktstr::prelude::*;

    const DEMO: &str = "demo";

    #[ktstr_test(scheduler = DEMO)]
//               ^^^^^^^^^^^^^^^^ mismatched types: expected `&Scheduler`, found `&&str`
//    note: expected reference `&Scheduler`
//       found reference `&&'static str`
//    note: function defined here
//  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ mismatched types: expected `&Scheduler`, found `&&str`
//    note: expected reference `&Scheduler`
//       found reference `&&'static str`
//    note: function defined here
//  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ mismatched types: expected `&Scheduler`, found `&&str`
//    note: expected reference `&Scheduler`
//       found reference `&&'static str`
//    help: the type constructed contains `&&'static str` due to the type of the argument passed
//    note: tuple variant defined here
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod limits_of_another_type {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", assert = 5 });
//                                                                          ^ mismatched types: expected `Assert`, found integer
//    help: the type constructed contains `{integer}` due to the type of the argument passed
//    note: tuple variant defined here
}
