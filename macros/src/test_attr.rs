//! What the attributes of a test say, with everything checked that can be checked without the scheduler.

use proc_macro2::{Span, TokenStream};
use syn::{Error, LitStr, Path, Result};

use crate::args::Args;
use crate::test_keys::KEYS;

/// Default workload window, in s.
const DURATION_S: u64 = 12;
/// Default stall watchdog, in s.
const WATCHDOG_TIMEOUT_S: u64 = 5;
/// Default guest RAM, in MiB.
const MEMORY_MIB: u64 = 512;
/// Periodic captures may not be closer than this, in ms.
const MIN_SNAPSHOT_GAP_MS: u64 = 100;

/// The attributes of a test, with the defaults filled in that do not come from the scheduler.
pub struct TestAttr {
    /// `scheduler`.
    pub scheduler: Option<Path>,
    /// `numa_nodes`, `llcs`, `cores`, `threads`, where given.
    pub topology: [Option<u32>; 4],
    /// A key to blame for a topology that does not fit together.
    pub topology_span: Option<Span>,
    /// `memory_mib`.
    pub memory_mib: u32,
    /// `duration_s`.
    pub duration_s: u64,
    /// `watchdog_timeout_s`.
    pub watchdog_timeout_s: u64,
    /// `num_snapshots`.
    pub num_snapshots: u32,
    /// `checkpoint`.
    pub checkpoint: String,
    /// `pages`.
    pub pages: String,
    /// `seed`.
    pub seed: u64,
    /// `claims`.
    pub claims: Vec<LitStr>,
    /// `check`.
    pub check: Option<Path>,
    /// `not_starved`.
    pub not_starved: bool,
    /// `expect_err`.
    pub expect_err: bool,
    /// `expect_scx_error_contains`.
    pub expect_scx_error_contains: Option<LitStr>,
    /// `allow_inconclusive`.
    pub allow_inconclusive: bool,
    /// `ignore`.
    pub ignore: bool,
    /// `kaslr`.
    pub kaslr: bool,
    /// `kargs`.
    pub kargs: Vec<LitStr>,
    /// `extra_sched_args`.
    pub extra_sched_args: Vec<LitStr>,
    /// `include_files`.
    pub include_files: Option<Path>,
}

impl TestAttr {
    /// Read the text between the parentheses of `#[ktstr_test(..)]`.
    ///
    /// # Errors
    /// What [`Args::parse`] refuses, and every contradiction among the keys, all of them at once.
    pub fn parse(tokens: TokenStream) -> Result<Self> {
        let args = Args::parse2(tokens, KEYS)?;
        contradictions(&args)?;
        let dimension = |name| args.number(name).and_then(|number| u32::try_from(number).ok());
        let number = |name, default| args.number(name).unwrap_or(default);
        let flag = |name, default| args.flag(name).unwrap_or(default);
        Ok(Self {
            scheduler: args.path("scheduler").cloned(),
            topology: [dimension("numa_nodes"), dimension("llcs"), dimension("cores"), dimension("threads")],
            topology_span: args.span("llcs").or_else(|| args.span("numa_nodes")),
            memory_mib: u32::try_from(number("memory_mib", MEMORY_MIB)).unwrap_or(u32::MAX),
            duration_s: number("duration_s", DURATION_S),
            watchdog_timeout_s: number("watchdog_timeout_s", WATCHDOG_TIMEOUT_S),
            num_snapshots: u32::try_from(number("num_snapshots", 0)).unwrap_or(u32::MAX),
            checkpoint: args.text("checkpoint").map_or_else(|| "every".to_owned(), LitStr::value),
            pages: args.text("pages").map_or_else(|| "kernel".to_owned(), LitStr::value),
            seed: number("seed", 1),
            claims: args.texts("claims").to_vec(),
            check: args.path("check").cloned(),
            not_starved: flag("not_starved", false),
            expect_err: flag("expect_err", false),
            expect_scx_error_contains: args.text("expect_scx_error_contains").cloned(),
            allow_inconclusive: flag("allow_inconclusive", false),
            ignore: flag("ignore", false),
            kaslr: flag("kaslr", true),
            kargs: args.texts("kargs").to_vec(),
            extra_sched_args: args.texts("extra_sched_args").to_vec(),
            include_files: args.path("include_files").cloned(),
        })
    }
}

fn contradictions(args: &Args) -> Result<()> {
    let mut found: Option<Error> = None;
    let mut blame = |name: &str, message: String| {
        let error = Error::new(args.span(name).unwrap_or_else(Span::call_site), message);
        match &mut found {
            Some(all) => all.combine(error),
            None => found = Some(error),
        }
    };
    if let (Some(numa_nodes), Some(llcs)) = (args.number("numa_nodes"), args.number("llcs"))
        && !llcs.is_multiple_of(numa_nodes)
    {
        blame(
            "llcs",
            format!(
                "`llcs` = {llcs} is the machine's total and not a multiple of `numa_nodes` = {numa_nodes}"
            ),
        );
    }
    let snapshots = args.number("num_snapshots").unwrap_or(0);
    let gap_ms = snapshot_gap_ms(args.number("duration_s").unwrap_or(DURATION_S), snapshots);
    if snapshots > 0 && gap_ms < MIN_SNAPSHOT_GAP_MS {
        blame(
            "num_snapshots",
            format!(
                "`num_snapshots` = {snapshots} puts captures {gap_ms} ms apart; they must be at least \
                 {MIN_SNAPSHOT_GAP_MS} ms apart: fewer of them, or a longer `duration_s`"
            ),
        );
    }
    if let Some(text) = args.text("expect_scx_error_contains") {
        if args.flag("expect_err") != Some(true) {
            blame(
                "expect_scx_error_contains",
                "`expect_scx_error_contains` needs `expect_err`: a run that must not fail has no error to match".to_owned(),
            );
        }
        if args.path("scheduler").is_none() {
            blame(
                "expect_scx_error_contains",
                "`expect_scx_error_contains` needs a `scheduler`: the kernel's own has no sched_ext error"
                    .to_owned(),
            );
        }
        if text.value().is_empty() {
            blame(
                "expect_scx_error_contains",
                "`expect_scx_error_contains` is empty, which every text contains".to_owned(),
            );
        }
    }
    if !args.texts("extra_sched_args").is_empty() && args.path("scheduler").is_none() {
        blame("extra_sched_args", "`extra_sched_args` needs a `scheduler` to give them to".to_owned());
    }
    if args.span("watchdog_timeout_s").is_some() && args.path("scheduler").is_none() {
        blame(
            "watchdog_timeout_s",
            "`watchdog_timeout_s` needs a `scheduler`: only sched_ext has that watchdog".to_owned(),
        );
    }
    found.map_or(Ok(()), Err)
}

/// Time between neighbouring periodic captures, in ms: they split the middle 80 % of the window.
fn snapshot_gap_ms(duration_s: u64, snapshots: u64) -> u64 {
    duration_s.saturating_mul(800) / (snapshots + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        let tokens: TokenStream = text.parse().expect("tokens");
        match TestAttr::parse(tokens) {
            Ok(_) => Vec::new(),
            Err(error) => error.into_iter().map(|error| error.to_string()).collect(),
        }
    }

    #[test]
    fn nothing_given_is_the_documented_defaults() -> Result<()> {
        let attr = TestAttr::parse(TokenStream::new())?;
        assert_eq!((attr.memory_mib, attr.duration_s, attr.watchdog_timeout_s), (512, 12, 5));
        assert_eq!((attr.num_snapshots, attr.checkpoint.as_str(), attr.seed), (0, "every", 1));
        assert!(
            attr.kaslr && !attr.ignore && !attr.not_starved && !attr.expect_err && !attr.allow_inconclusive
        );
        assert_eq!(attr.pages, "kernel");
        assert_eq!(attr.topology, [None; 4]);
        Ok(())
    }

    #[test]
    fn snapshots_exactly_100_ms_apart_are_taken_and_one_more_is_not() {
        assert!(errors("duration_s = 1, num_snapshots = 7").is_empty());
        assert!(errors("duration_s = 1, num_snapshots = 8")[0].contains("puts captures 88 ms apart"));
    }

    #[test]
    fn all_contradictions_are_reported_at_once() {
        let found = errors(
            "numa_nodes = 2, llcs = 3, expect_scx_error_contains = \"x\", extra_sched_args = [\"-v\"]",
        );
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found[0].contains("not a multiple of `numa_nodes` = 2"));
    }

    #[test]
    fn an_error_matcher_with_expect_err_false_is_a_contradiction() {
        let found = errors("scheduler = S, expect_err = false, expect_scx_error_contains = \"x\"");
        assert!(found[0].contains("needs `expect_err`"), "{found:?}");
    }
}
