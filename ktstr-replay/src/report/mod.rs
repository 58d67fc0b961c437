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

mod guest;
mod history;
mod recording;
mod scheduler;
mod verdict;

use std::path::Path;

pub use recording::columns;
pub use verdict::title;

use crate::run::Run;
use crate::text::plain_lines;
use crate::verdict::{Outcome, Verdict};

/// A part of the report with a title, such as the kernel log.
struct Section {
    title: String,
    lines: Vec<String>,
}

/// How much of a run is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// What a person reads first: of a run that passed what was verified, and of long lists a part.
    Brief,
    /// All there is, whatever the verdict.
    Full,
}

impl Detail {
    /// How many lines of a part that has `brief` of them in the short report are shown.
    fn most(self, brief: usize) -> usize {
        match self {
            Self::Brief => brief,
            Self::Full => usize::MAX,
        }
    }
}

/// The report of a run. Times are in s since the test's body began.
pub fn render(run: &Run<'_>, verdict: &Verdict) -> String {
    report(run, verdict, Detail::Brief)
}

/// The same with workers, watches, variables, timeline and logs of a run that passed, too, and no list cut.
pub fn render_full(run: &Run<'_>, verdict: &Verdict) -> String {
    report(run, verdict, Detail::Full)
}

/// The first two lines of it: the verdict with its first cause, and what was checked.
pub fn summary(run: &Run<'_>, verdict: &Verdict) -> String {
    let lines: Vec<String> = verdict::header(run, verdict).into_iter().take(2).collect();
    plain_lines(&lines.join("\n"))
}

fn report(run: &Run<'_>, verdict: &Verdict, detail: Detail) -> String {
    let mut out = verdict::header(run, verdict);
    out.push(String::new());
    out.extend(verdict::findings(verdict));
    let mut sections = Vec::new();
    let failed = verdict.outcome() > Outcome::Pass;
    if failed || detail == Detail::Full {
        let end = scheduler::end(run).unwrap_or_else(|unread| {
            sections.push(unread);
            None
        });
        // Somebody always waits; of a run that passed it says nothing.
        sections.extend(end.iter().filter(|_| failed).flat_map(|end| scheduler::waiting(end, detail)));
        sections.extend(end.as_ref().and_then(scheduler::raised));
        sections.extend(end.iter().filter(|_| failed).flat_map(|end| history::history(run, end)));
        sections.extend(scheduler::variables(run, detail));
        sections.extend(scheduler::changed(run, detail));
        sections.extend(guest::workers(run, detail));
        sections.push(guest::watches(run));
        sections.push(guest::probes(run));
        sections.push(guest::timeline(run, detail));
        sections.extend(guest::logs(run, verdict, detail));
        sections.extend(guest::log_in_memory(run, detail));
        sections.extend(scheduler::dump(run, end.as_ref(), detail));
        sections.extend(recording::repro(run));
    }
    sections.extend(recording::absent(run, verdict, detail));
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
