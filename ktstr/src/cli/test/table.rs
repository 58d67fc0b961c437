//! What a run of tests came to: a table of tests by what they were run on.

use std::path::{Path, PathBuf};

use ktstr_replay::run::Run;
use ktstr_replay::text::{Align, layout, printable};
use ktstr_replay::trace::Trace;

use crate::gauntlet::test_of_variant;
use crate::host::results::TRACE_SUFFIX;

/// Stands for a test that left no trace.
const NO_TRACE: &str = "-";
/// Stands for a trace without a verdict.
const NOT_JUDGED: &str = "not judged";

/// One run of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Its target and name, `demo::two`.
    pub(super) test: String,
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
    /// Of a trace that was recorded on `kernel`; `None` where it cannot be read.
    pub(super) fn of(trace: &Path, kernel: &str) -> Option<Self> {
        let opened = Trace::open(trace).ok()?;
        let run = Run::load(&opened);
        let manifest = run.manifest();
        let target = manifest.test.package.rsplit("::").next().unwrap_or_default();
        let verdict = run.recorded_verdict();
        Some(Self {
            test: printable(&format!("{target}::{}", test_of_variant(&manifest.test.name))),
            topology: printable(&manifest.machine.topology),
            kernel: kernel.to_owned(),
            verdict: verdict.map_or_else(|| NOT_JUDGED.to_owned(), |verdict| verdict.outcome().to_string()),
            trace: trace.to_owned(),
        })
    }

    /// Which of a test's tries in one run it is: `x.2.trace.zst` is the second.
    fn number(&self) -> u32 {
        let name = self.trace.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_suffix(TRACE_SUFFIX).and_then(|name| name.rsplit('.').next()?.parse().ok());
        number.unwrap_or(1)
    }
}

/// The table: a line for each test, a column for each value of `column` in the order of their first rows. Of several tries
/// of a test the last counts.
pub(super) fn render(rows: &[Row], column: impl Fn(&Row) -> String) -> String {
    let (mut tests, mut columns) = (Vec::new(), Vec::new());
    for row in rows {
        let key = column(row);
        if !columns.contains(&key) {
            columns.push(key);
        }
        if !tests.contains(&&row.test) {
            tests.push(&row.test);
        }
    }
    tests.sort();
    let cell = |test: &str, key: &String| {
        let tries = rows.iter().filter(|row| row.test == test && column(row) == *key);
        tries.max_by_key(|row| row.number()).map_or(NO_TRACE, |row| row.verdict.as_str()).to_owned()
    };
    let head: Vec<String> = std::iter::once("test".to_owned()).chain(columns.iter().cloned()).collect();
    let line = |test: &&String| {
        std::iter::once((*test).clone()).chain(columns.iter().map(|key| cell(test, key))).collect()
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

    fn row(test: &str, topology: &str, kernel: &str, verdict: &str, trace: &str) -> Row {
        Row {
            test: test.to_owned(),
            topology: topology.to_owned(),
            kernel: kernel.to_owned(),
            verdict: verdict.to_owned(),
            trace: trace.into(),
        }
    }

    #[test]
    fn a_line_for_each_test_and_a_column_for_each_kernel() {
        let rows = [
            row("demo::two", "1n1l2c1t", "7.3.4", "PASS", "a/demo.two.trace.zst"),
            row("demo::one", "1n1l2c1t", "7.3.4", "FAIL", "a/demo.one.trace.zst"),
            row("demo::two", "1n1l2c1t", "6.16.12", "SKIP", "b/demo.two.trace.zst"),
        ];
        assert_eq!(
            render(&rows, |row| row.kernel.clone()),
            "test       7.3.4  6.16.12\n\
             demo::one  FAIL   -\n\
             demo::two  PASS   SKIP\n\
             -: it left no trace; what it printed above says why\n"
        );
    }

    #[test]
    fn topology_and_kernel_together_can_be_the_column() {
        let rows = [
            row("t", "1n1l2c1t", "7.3", "PASS", "a"),
            row("t", "2n2l2c1t", "7.3", "FAIL", "b"),
            row("t", "2n2l2c1t", "7.2", "PASS", "c"),
        ];
        let text = render(&rows, |row| format!("{}, {}", row.topology, row.kernel));
        assert_eq!(text.lines().next(), Some("test  1n1l2c1t, 7.3  2n2l2c1t, 7.3  2n2l2c1t, 7.2"));
    }

    #[test]
    fn of_several_tries_the_last_counts() {
        let mut rows: Vec<Row> =
            (2..12).map(|n| row("t", "", "7.3", "INCONCLUSIVE", &format!("a/x.t.{n}.trace.zst"))).collect();
        rows[9].verdict = "PASS".to_owned();
        rows.insert(0, row("t", "", "7.3", "FAIL", "a/x.t.trace.zst"));
        assert_eq!(render(&rows, |row| row.kernel.clone()), "test  7.3\nt     PASS\n");
    }

    #[test]
    fn a_trace_that_cannot_be_read_has_no_row() {
        assert_eq!(Row::of(Path::new("/no/such.trace.zst"), "7.3"), None);
    }
}
