//! `#[ktstr_test]` and `declare_scheduler!`.
//!
//! What both accept is a table of keys (`test_keys`, `scheduler_keys`); one parser reads `key = value` lists
//! against such a table, so that duplicate and unknown keys are found, and named, in one place.

mod args;
mod scheduler;
mod scheduler_keys;
mod test_attr;
mod test_expand;
mod test_keys;

use proc_macro::TokenStream;

/// Turn a function into a test whose body runs inside a booted VM.
///
/// The function becomes an ordinary `#[test]`: on the host it boots the machine that the attributes describe
/// and judges the trace, in the guest it runs the function. Attributes are `key = value`, separated by commas;
/// a bool may be bare. Unknown, repeated, zero and contradictory keys are compile errors that point at the key.
///
/// | key | value | default |
/// |---|---|---|
/// | `scheduler` | a const from `declare_scheduler!` | the kernel's own |
/// | `numa_nodes`, `llcs`, `cores`, `threads` | counts; `llcs` of the whole machine, `cores` of each LLC, `threads` of each core | the scheduler's, else 1, 1, 2, 1 |
/// | `memory_mib` | guest RAM | 512 |
/// | `duration_s` | workload window | 12 |
/// | `watchdog_timeout_s` | how long a stall may go unnoticed, at most 30: the run waits that much longer for its end. It is the scheduler that sets sched_ext's watchdog (`timeout_ms` of its ops) | 5 |
/// | `num_snapshots` | periodic captures, at most 256 and at least 100 ms apart | 0 |
/// | `checkpoint` | `every`, `ends` or `never` | `every` |
/// | `pages` | pages of a checkpoint: `kernel` (what decoders read) or `all` | `kernel` |
/// | `seed` | random seed of the guest | 1 |
/// | `claims` | list of claims as text | none |
/// | `check` | `fn(&Trace, &mut Verdict) -> Result<()>`, run on the host | none |
/// | `not_starved` | every worker ran, evenly, without long gaps | false |
/// | `expect_err` | the run must fail | false |
/// | `expect_scx_error_contains` | text that the scheduler's error must contain | none |
/// | `allow_inconclusive` | an inconclusive verdict passes | false |
/// | `ignore` | emit `#[ignore]` | false |
/// | `kaslr` | place the kernel at random | true |
/// | `kargs` | more words for the kernel's command line | none |
/// | `extra_sched_args` | more arguments for the scheduler | none |
/// | `include_files` | `fn() -> Result<Vec<IncludedFile>>`, run on the host: files for the guest | none |
#[proc_macro_attribute]
pub fn ktstr_test(attr: TokenStream, item: TokenStream) -> TokenStream {
    test_expand::expand(attr.into(), item.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Declare a scheduler under test: `declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo" });`.
///
/// Makes a const `DEMO` of type `ktstr::prelude::Scheduler`. Attributes, docs and a visibility may stand before
/// the name.
///
/// | key | value |
/// |---|---|
/// | `name` | what reports call it; required, `eevdf` is reserved |
/// | `binary` | a package of the workspace, or a program beside the test binary or on `PATH`; `KTSTR_SCHEDULER` overrides |
/// | `binary_path` | path of the program, relative to the package's folder |
/// | `source` | folder with C sources that ktstr builds, relative to the package's folder |
/// | `sched_args` | list of arguments |
/// | `topology` | `(numa_nodes, llcs, cores, threads)` for tests that give none |
/// | `kargs` | list of words for the kernel's command line |
///
/// Exactly one of `binary`, `binary_path` and `source` is given.
#[proc_macro]
pub fn declare_scheduler(input: TokenStream) -> TokenStream {
    scheduler::expand(input.into()).unwrap_or_else(|error| error.into_compile_error()).into()
}
