//! What a run of tests came to: a table of tests by what they were run on.

use std::path::{Path, PathBuf};

use ktstr_replay::text::{Align, layout, printable};
use ktstr_replay::trace::record::Manifest;
use ktstr_replay::verdict::{Outcome, Verdict};

use crate::gauntlet::test_of_variant;
use crate::host::results::TRACE_SUFFIX;

/// Stands for a test that left no trace.
const NO_TRACE: &str = "-";
/// Stands for a test that was not to be run there.
const NOT_RUN: &str = "";
/// Stands for a trace without a verdict.
const NOT_JUDGED: &str = "not judged";

/// A test, whichever machine it is run on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct TestName {
    /// Its package and crate, `sched::demo`.
    krate: String,
    /// Its name as libtest knows it.
    name: String,
}

impl TestName {
    /// The test that is called `name`, or whose variant is, in this target of a package.
    pub(in super::super) fn of(package: &str, target: &str, name: &str) -> Self {
        let krate = format!("{package}::{}", target.replace('-', "_"));
        Self { krate, name: test_of_variant(name).into_owned() }
    }

    /// Its package and crate, if another of `all` is called the same as it in its own.
    pub(super) fn told_apart<'a>(&self, mut all: impl Iterator<Item = &'a TestName>) -> Option<&str> {
        let is_alike = |other: &TestName| other.name == self.name && other.krate != self.krate;
        all.any(is_alike).then_some(self.krate.as_str())
    }

    /// As people are told of it: with its package only where there is another test that is called the same otherwise.
    pub(in super::super) fn shown(&self, all: &[TestName]) -> String {
        let target = |test: &TestName| test.krate.rsplit("::").next().unwrap_or_default().to_owned();
        let is_same = |other: &&TestName| target(other) == target(self) && other.name == self.name;
        match all.iter().filter(is_same).count() {
            0 | 1 => format!("{}::{}", target(self), self.name),
            _ => format!("{}::{}", self.krate, self.name),
        }
    }
}

/// One run of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) test: TestName,
    /// The machine, `1n1l2c1t`.
    pub(super) topology: String,
    /// The kernel, as people are told of it.
    pub(super) kernel: String,
    /// `PASS`, `FAIL`, `INCONCLUSIVE`, `SKIP`, or why there is none.
    pub(super) verdict: String,
    /// The recording.
    pub(super) trace: PathBuf,
}

impl Row {
    /// Of the trace at `trace`, with its manifest and verdict, which was recorded on `kernel`.
    pub(super) fn of(manifest: &Manifest, verdict: Option<&Verdict>, trace: &Path, kernel: &str) -> Self {
        let (package, target) = manifest.test.package.rsplit_once("::").unwrap_or_default();
        Self {
            test: TestName::of(&printable(package), &printable(target), &printable(&manifest.test.name)),
            topology: printable(&manifest.machine.topology),
            kernel: kernel.to_owned(),
            verdict: verdict.map_or_else(|| NOT_JUDGED.to_owned(), |verdict| verdict.outcome().to_string()),
            trace: trace.to_owned(),
        }
    }

    /// Of a test that failed before it had a trace.
    pub(super) fn untraced(test: TestName, topology: String, kernel: &str) -> Self {
        let (verdict, trace) = (Outcome::Fail.to_string(), PathBuf::new());
        Self { test, topology, kernel: kernel.to_owned(), verdict, trace }
    }

    /// Which of a test's tries in one run it is: `x.2.trace.zst` is the second.
    fn number(&self) -> u32 {
        let name = self.trace.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(TRACE_SUFFIX).and_then(|name| name.rsplit('.').next()?.parse().ok());
        number.unwrap_or(1)
    }
}

/// A column of the table: what its rows have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// `None`: any.
    pub(super) topology: Option<String>,
    pub(super) kernel: String,
    /// Its head.
    pub(super) head: String,
}

impl Column {
    fn has(&self, row: &Row) -> bool {
        self.kernel == row.kernel && self.topology.as_ref().is_none_or(|topology| *topology == row.topology)
    }
}

/// The table: a line for each test, those of the rows and `planned`, and the columns. Of several tries of a test the last counts.
/// `is_planned`: whether a test was to be run in a column; where it was and left nothing, that is told.
pub(super) fn render(
    rows: &[Row],
    planned: &[TestName],
    columns: &[Column],
    is_planned: impl Fn(&TestName, &Column) -> bool,
) -> String {
    let mut tests: Vec<TestName> = rows.iter().map(|row| &row.test).chain(planned).cloned().collect();
    tests.sort();
    tests.dedup();
    let cell = |test: &TestName, column: &Column| {
        let tries = rows.iter().filter(|row| row.test == *test && column.has(row));
        let none = || if is_planned(test, column) { NO_TRACE } else { NOT_RUN };
        tries.max_by_key(|row| row.number()).map_or_else(none, |row| row.verdict.as_str()).to_owned()
    };
    let heads = columns.iter().map(|column| column.head.clone());
    let head: Vec<String> = std::iter::once("test".to_owned()).chain(heads).collect();
    let line = |test: &TestName| {
        std::iter::once(test.shown(&tests)).chain(columns.iter().map(|column| cell(test, column))).collect()
    };
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(tests.iter().map(line)).collect();
    let align = vec![Align::Left; columns.len() + 1];
    let mut text: String = layout(&align, &lines).iter().map(|line| format!("{line}\n")).collect();
    if lines.iter().flatten().any(|cell| cell == NO_TRACE) {
        text.push_str(&format!("{NO_TRACE}: it left no trace; what it printed above says why\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(test: &str) -> TestName {
        let (krate, name) = test.rsplit_once("::").expect("a crate");
        TestName { krate: krate.to_owned(), name: name.to_owned() }
    }

    fn row(test: &str, topology: &str, kernel: &str, verdict: &str, trace: &str) -> Row {
        Row {
            test: name(test),
            topology: topology.to_owned(),
            kernel: kernel.to_owned(),
            verdict: verdict.to_owned(),
            trace: trace.into(),
        }
    }

    fn of_kernel(kernel: &str) -> Column {
        Column { topology: None, kernel: kernel.to_owned(), head: kernel.to_owned() }
    }

    #[test]
    fn a_line_for_each_test_and_a_column_for_each_kernel_on_which_nothing_came_of_it_too() {
        let rows = [
            row("p::demo::two", "1n1l2c1t", "7.3.4", "PASS", "a/demo.two.trace.zst"),
            row("p::demo::one", "1n1l2c1t", "7.3.4", "FAIL", "a/demo.one.trace.zst"),
            row("p::demo::two", "1n1l2c1t", "6.16.12", "SKIP", "b/demo.two.trace.zst"),
        ];
        assert_eq!(
            render(&rows, &[], &["7.3.4", "6.16.12", "6.12"].map(of_kernel), |_, _| true),
            "test       7.3.4  6.16.12  6.12\n\
             demo::one  FAIL   -        -\n\
             demo::two  PASS   SKIP     -\n\
             -: it left no trace; what it printed above says why\n"
        );
    }

    #[test]
    fn a_planned_test_that_left_nothing_has_a_line_and_one_that_is_not_run_somewhere_a_blank() {
        let columns = ["1n1l2c1t", "2n2l2c1t"].map(|topology| Column {
            topology: Some(topology.to_owned()),
            kernel: "7.3".to_owned(),
            head: topology.to_owned(),
        });
        let rows =
            [row("p::a::t", "1n1l2c1t", "7.3", "PASS", "a"), row("p::a::t", "2n2l2c1t", "7.3", "FAIL", "b")];
        let planned = |test: &TestName, column: &Column| test.name == "t" || column.head == "2n2l2c1t";
        let text = render(&rows, &[name("p::a::t"), name("p::a::u")], &columns, planned);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["test  1n1l2c1t  2n2l2c1t", "a::t  PASS      FAIL", "a::u            -"]);
    }

    #[test]
    fn tests_of_one_name_in_two_packages_are_two_lines() {
        let rows = [
            row("p::a::t", "", "7.3", "FAIL", "a/a.t.trace.zst"),
            row("q::a::t", "", "7.3", "PASS", "a/a.t.2.trace.zst"),
        ];
        let text = render(&rows, &[], &[of_kernel("7.3")], |_, _| true);
        assert_eq!(text, "test     7.3\np::a::t  FAIL\nq::a::t  PASS\n");
        let all = || rows.iter().map(|row| &row.test);
        assert_eq!(rows[0].test.told_apart(all()), Some("p::a"));
        assert_eq!(name("p::a::u").told_apart(all()), None);
    }

    #[test]
    fn a_variant_is_a_run_of_its_test() {
        assert_eq!(
            TestName::of("p", "my-target", "in::gauntlet_t::llcs1_cpus4"),
            name("p::my_target::t").within("in")
        );
    }

    impl TestName {
        fn within(self, module: &str) -> Self {
            Self { name: format!("{module}::{}", self.name), ..self }
        }
    }

    #[test]
    fn of_several_tries_the_last_counts() {
        let mut rows: Vec<Row> = (2..12)
            .map(|n| row("p::a::t", "", "7.3", "INCONCLUSIVE", &format!("a/x.t.{n}.trace.zst")))
            .collect();
        rows[9].verdict = "PASS".to_owned();
        rows.insert(0, row("p::a::t", "", "7.3", "FAIL", "a/x.t.trace.zst"));
        assert_eq!(render(&rows, &[], &[of_kernel("7.3")], |_, _| true), "test  7.3\na::t  PASS\n");
    }
}
