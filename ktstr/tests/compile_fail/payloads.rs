//! How payloads are declared, and named by tests.

fn main() {}

mod not_said_what {
    use ktstr::prelude::*;

    #[derive(Payload)]
    struct Fio;
//         ^^^ a payload says what program it is: add `#[payload(binary = "..")]`
}

mod with_fields {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    struct Fio {
//         ^^^ a payload is a struct without fields and parameters: `struct Fio;`
        args: u8,
    }
}

mod said_twice {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    #[payload(output = Json)]
//    ^^^^^^^ `#[payload(..)]` is given twice: put all keys into one
    struct Fio;
}

mod no_binary {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(package = "fio")]
//    ^^^^^^^ key `binary` is missing: the program: a name on `PATH` or in `package`, or a path relative to the folder of the Rust package, where it has a `/`
    struct Fio;
}

mod empty_binary {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "")]
//            ^^^^^^ `binary` is empty, which is the name of no program
    struct Fio;
}

mod unknown_key {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binry = "fio")]
//            ^^^^^ unknown key `binry`; did you mean `binary`? the keys are binary, package, output, name
    struct Fio;
}

mod unknown_output {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", output = Yaml)]
//                            ^^^^^^^^^^^^^ `output` is one of Json, ExitCode, not `Yaml`
    struct Fio;
}

mod an_option_as_package {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", package = "-o=x")]
//                                      ^^^^^^ `-o=x` is no name of a package: it is made of at least two lower-case letters, digits, `+`, `-` and `.`
    struct Fio;
}

mod a_path_of_a_package {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "bin/fio", package = "fio")]
//                                          ^^^^^ `binary` is a path, and a program of a package has a name: leave one of them out
    struct Fio;
}

mod a_name_that_is_none {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", name = "my fio")]
//                                   ^^^^^^^^ `my fio` cannot be a payload's name: it begins with a letter and is made of ASCII letters, digits, `_` and `-`, at most 64
    struct Fio;
}

mod arguments_that_are_no_strings {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    #[default_args(--size = 1)]
//    ^^^^^^^^^^^^ `default_args` takes strings: `#[default_args("..", "..")]`
    struct Fio;
}

mod a_metric_without_json {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    #[metric(name = "iops")]
//                  ^^^^^^ a metric is a number of JSON: add `output = Json` to `#[payload(..)]`
    struct Fio;
}

mod a_metric_twice {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", output = Json)]
    #[metric(name = "iops")]
    #[metric(name = "iops", unit = "iops")]
//                  ^^^^^^ the metric `iops` is given twice
    struct Fio;
}

mod a_metric_without_name {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", output = Json)]
    #[metric(unit = "iops")]
//    ^^^^^^ key `name` is missing: its path in the JSON, with dots between: `jobs.0.read.iops`
    struct Fio;
}

mod unknown_polarity {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", output = Json)]
    #[metric(name = "iops", polarity = Better)]
//                          ^^^^^^^^^^^^^^^^^ `polarity` is one of Neutral, HigherBetter, LowerBetter, not `Better`
    struct Fio;
}

mod unknown_check {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", output = Json)]
    #[default_check(at_least("iops", 1.0))]
//                  ^^^^^^^^ `at_least` is no check; the checks are min, max, range, exists, exit_code_eq
    struct Fio;
}

mod a_check_without_limit {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", output = Json)]
    #[default_check(min("iops"))]
//                  ^^^ `min` takes 2 arguments
    struct Fio;
}

mod a_check_of_a_metric_without_json {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio", output = ExitCode)]
    #[default_check(min("iops", 1.0), exit_code_eq(0))]
//                  ^^^ a check of a metric needs JSON: add `output = Json` to `#[payload(..)]`
    struct Fio;
}

mod two_exit_codes {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    #[default_check(exit_code_eq(0), exit_code_eq(1))]
//                                   ^^^^^^^^^^^^ `exit_code_eq` is given twice: a program exits with one code
    struct Fio;
}

mod a_limit_that_nothing_keeps {
    use ktstr::prelude::*;

    #[derive(Payload)]
//           ^^^^^^^ evaluation panicked: the lower limit of a check is above the upper one: evaluation of `<a_limit_that_nothing_keeps::Fio as ktstr::prelude::Payload>::DEFINITION` failed inside this call
//    note: inside `MetricCheck::range`
//           ^^^^^^^ note: erroneous constant encountered
    #[payload(binary = "fio", output = Json)]
    #[default_check(range("iops", 2.0, 1.0))]
    struct Fio;
}

mod files_that_climb {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    #[include_files("../jobs")]
//                  ^^^^^^^^^ `include_files` has "../jobs", and a path in the guest cannot have `..`: say where it is to be, as "PATH:/PATH/IN/GUEST"
    struct Fio;
}

mod named_twice {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    struct Fio;

    #[ktstr_test(payload = Fio, workloads = [Fio])]
//                                           ^^^ the payload `Fio` is named twice: `payload` and `workloads` are one list
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod two_of_one_name {
    use ktstr::prelude::*;

    #[derive(Payload)]
    #[payload(binary = "fio")]
    struct Fio;

    #[derive(Payload)]
    #[payload(binary = "other", name = "fio")]
    struct Other;

    #[ktstr_test(payload = Fio, workloads = [Other])]
//                              ^^^^^^^^^ evaluation panicked: two payloads of the test have one name: give one of them another with `#[payload(name = "..")]`: evaluation of `two_of_one_name::__KTSTR_TEST_a_test::_` failed inside this call
//    note: inside `ktstr::__private::check_payloads`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod no_payload {
    use ktstr::prelude::*;

    struct Fio;

    #[ktstr_test(payload = Fio)]
//                         ^^^ the trait bound `no_payload::Fio: ktstr::prelude::Payload` is not satisfied: unsatisfied trait bound
//    help: the trait `ktstr::prelude::Payload` is not implemented for `no_payload::Fio`
//    note: required by a bound in `ktstr::__private::definition_of`
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod files_of_a_test_that_climb {
    use ktstr::prelude::*;

    #[ktstr_test(include_files = ["a/../../b"])]
//               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `include_files` has "a/../../b", and a path in the guest cannot have `..`: say where it is to be, as "PATH:/PATH/IN/GUEST"
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}

mod a_file_that_is_none {
    use ktstr::prelude::*;

    #[ktstr_test(include_files = ["a:/"])]
//               ^^^^^^^^^^^^^^^^^^^^^^^ `include_files` has "a:/", which names no file: write "PATH" or "PATH:/PATH/IN/GUEST"
    fn a_test(ctx: &Ctx) -> Result<AssertResult> {
        execute_defs(ctx, vec![])
    }
}
