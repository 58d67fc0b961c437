//! Reports: what a person reads of a run.
//!
//! **Invariant:** [`render`] is a function of the trace and the verdict. The live run prints it, `ktstr replay`
//! prints it, and the two are the same bytes; only [`provenance`], which names the file, differs.
//!
//! ```text
//! FAIL module::test: the first cause
//!   checked: ...                     what was verified
//!   run: ...                         kernel, machine, scheduler
//!
//! FAIL  what                         each finding that does not hold, with its evidence
//! ok    what: found                  each that does
//!
//! section                            of a failed run: who waited, runqueues, queues, variables, workers, timeline, logs
//!   ...
//! ```

mod changed;
mod columns;
mod exit;
mod findings;
mod header;
mod kernel_log;
mod logs;
mod recording;
mod timeline;
mod waiting;
mod workers;

use std::path::Path;

pub use columns::columns;

use crate::run::Run;
use crate::text::plain_lines;
use crate::verdict::{Outcome, Verdict};

/// A part of the report with a title, such as the kernel log.
struct Section {
    title: String,
    lines: Vec<String>,
}

/// The report of a run. Times are in s since the test's body began.
pub fn render(run: &Run<'_>, verdict: &Verdict) -> String {
    let mut out = header::lines(run, verdict);
    out.push(String::new());
    out.extend(findings::lines(verdict));
    let mut sections = Vec::new();
    if verdict.outcome() > Outcome::Pass {
        sections.extend(waiting::sections(run));
        sections.extend(exit::variables(run));
        sections.extend(changed::section(run));
        sections.extend(workers::table(run));
        sections.push(timeline::section(run));
        sections.extend(logs::sections(run, verdict));
        sections.extend(kernel_log::section(run));
        sections.extend(exit::dump(run));
    }
    sections.extend(recording::section(run, verdict));
    for section in sections.into_iter().filter(|s| !s.lines.is_empty()) {
        out.push(String::new());
        out.push(section.title);
        out.extend(section.lines.iter().map(|line| format!("  {line}").trim_end().to_owned()));
    }
    out.push(String::new());
    // A live run prints it as it is.
    plain_lines(&out.join("\n"))
}

/// The one line that says where the trace is.
pub fn provenance(trace: &Path) -> String {
    format!("trace: {}\n", trace.display())
}
