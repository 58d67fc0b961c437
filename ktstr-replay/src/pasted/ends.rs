//! The dumps and the ends of schedulers that are in pasted text.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::lines::{Form, Line, MAX_LINES, form, lines};
use super::messages::{exit_line, kind_name, kind_of_reason, placed, reason, requested};
use crate::kernel::scx::said::{SchedulerLine, said};
use crate::run::{Dump, DumpTrigger, SchedulerExit, trigger};
use crate::text::escaped;
use crate::units::Cpu;

/// Lines that a reason goes over: a message may hold a name with line breaks, and be wrapped.
const REASON_LINES: usize = 20;
/// Ends before one that may be the same one, told by another.
const MATES: usize = 4;
/// A line of so many `=` is what schedulers put around a dump.
const RULE: usize = 40;

/// What a pasted text has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pasted {
    /// The dumps and ends, in their order in time.
    pub ends: Vec<PastedEnd>,
    /// The lines were in reversed order.
    pub reversed: bool,
    /// How many lines were read, where there are more.
    pub cut_after: Option<usize>,
}

/// A scheduler's end, or a dump that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastedEnd {
    /// Name of the scheduler, where it is said.
    pub scheduler: Option<String>,
    /// Its place among the schedulers, where it is said: `root`, `sub1-4711 /the/cgroup`.
    pub place: Option<String>,
    /// How it ended; `None` where that is not said.
    pub exit: Option<SchedulerExit>,
    /// Who asked for the dump of a scheduler that did not end: `SysRq-D`.
    pub requested_by: Option<String>,
    /// The dump, if there is one.
    pub dump: Option<Dump>,
    /// The dump's beginning is not there.
    pub headless: bool,
    /// CPUs of the dump with more runnable tasks than it has.
    pub short: Vec<Short>,
    /// The lines in which it stands, by their numbers from 1.
    pub lines: Option<RangeInclusive<usize>>,
    /// What it was told by.
    sources: Sources,
}

/// A CPU that has more runnable tasks than the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// CPU number.
    pub cpu: Cpu,
    /// Runnable tasks of the ext class, as the kernel counts them.
    pub runnable: u64,
    /// Of which the dump has so many.
    pub listed: u64,
}

/// What an end was told by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sources {
    dump: bool,
    kernel_log: bool,
    exit_line: bool,
}

/// Find the dumps and ends of schedulers in a text. It may be anything: what is not understood is passed over.
#[must_use]
pub fn read_pasted(text: &str) -> Pasted {
    let found = lines(text);
    let mut reader = Reader::default();
    for line in &found.lines {
        reader.line(line);
    }
    reader.close();
    let cut_after = found.cut.then_some(MAX_LINES);
    Pasted { ends: merged(reader.ends), reversed: found.reversed, cut_after }
}

impl PastedEnd {
    /// What the exit is told by, for people: `dump`, `kernel log` or `EXIT line`.
    #[must_use]
    pub fn told_by(&self) -> &'static str {
        match self.sources {
            Sources { dump: true, .. } => "dump",
            Sources { kernel_log: true, .. } => "kernel log",
            _ => "EXIT line",
        }
    }

    fn of_exit(reason: &str, message: Option<&str>, number: usize) -> Self {
        let kind = kind_of_reason(reason);
        Self { exit: Some(exit(kind, reason, message)), lines: Some(number..=number), ..Self::default() }
    }

    fn extend_to(&mut self, number: usize) {
        let lines = self.lines.take();
        self.lines = Some(
            lines.map_or(number..=number, |lines| (*lines.start()).min(number)..=(*lines.end()).max(number)),
        );
    }
}

fn exit(kind: u64, reason: &str, message: Option<&str>) -> SchedulerExit {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.trim().is_empty());
    SchedulerExit {
        kind,
        kind_name: kind_name(kind).map(str::to_owned),
        reason: text(reason),
        message: message.and_then(text),
        ..SchedulerExit::default()
    }
}

/// A dump that is being read.
#[derive(Default)]
struct Open {
    end: PastedEnd,
    text: String,
    program: Option<String>,
    cpus: HashSet<u32>,
    trigger: Option<DumpTrigger>,
    /// The lines of the reason, until it is whole.
    reason: Option<(String, usize)>,
    counters: bool,
}

#[derive(Default)]
struct Reader {
    ends: Vec<PastedEnd>,
    open: Option<Open>,
    /// The line before: name and place of a scheduler.
    named: Option<(String, String, usize)>,
}

impl Reader {
    fn line(&mut self, line: &Line<'_>) {
        let (text, number) = (line.text.as_ref(), line.number);
        let program = line.program.as_deref();
        let line = SchedulerLine::read(text);
        if let Some((name, reason)) = line.and_then(|line| Some((line.name, line.end?))) {
            let mut end = PastedEnd::of_exit(reason, None, number);
            (end.scheduler, end.sources.kernel_log) = (Some(escaped(name)), true);
            self.close();
            self.ends.push(end);
        } else if let Some((name, message)) = said(text) {
            self.said(name, message, number);
        } else if let Some((reason, message)) = exit_line(text) {
            let mut end = PastedEnd::of_exit(reason, message, number);
            end.sources.exit_line = true;
            self.close();
            self.ends.push(end);
        } else if let Some(found) = trigger(text) {
            let open = self.begin(number, program, false);
            open.trigger = Some(found);
            open.reason = Some((String::new(), 0));
        } else if let Some(by) = requested(text) {
            self.begin(number, program, false).end.requested_by = Some(escaped(by));
        } else if let Some((name, place)) = placed(text) {
            self.named = Some((escaped(name), escaped(place), number));
        } else if !text.trim().is_empty() {
            self.of_dump(text, number, program);
            self.named = None;
        }
    }

    /// A line that may be one of a dump.
    fn of_dump(&mut self, text: &str, number: usize, program: Option<&str>) {
        let form = form(text);
        let is_dumps = form.is_some();
        let cpu = || text.trim().strip_prefix("CPU ")?.split(':').next()?.trim().parse::<u32>().ok();
        let cpu = cpu().filter(|_| form == Some(Form::Cpu));
        if let Some(open) = &self.open {
            let another = matches!((&open.program, program), (Some(one), Some(other)) if one != other);
            if another && !is_dumps {
                return;
            }
            let rule = text.trim();
            let ends = rule.len() >= RULE && rule.bytes().all(|byte| byte == b'=') && !open.cpus.is_empty();
            // The same CPU once more, or the title: that is another dump, whose beginning is not there.
            let again = cpu.is_some_and(|cpu| open.cpus.contains(&cpu))
                || form == Some(Form::Title) && !open.cpus.is_empty()
                || open.counters && is_dumps;
            if ends || again {
                self.close();
            }
            if ends {
                return;
            }
        }
        let open = match &mut self.open {
            Some(open) => open,
            None if is_dumps => self.begin(number, program, true),
            None => return,
        };
        open.cpus.extend(cpu);
        open.counters |= text.trim() == "Event counters";
        open.end.extend_to(number);
        if is_dumps || text.trim() == "Backtrace:" {
            open.end_reason();
        }
        match &mut open.reason {
            Some((whole, pieces)) => {
                if *pieces > 0 {
                    whole.push(' ');
                }
                whole.push_str(if *pieces > 0 { text.trim() } else { text });
                *pieces += 1;
                if *pieces == REASON_LINES || text.trim_end().ends_with(')') {
                    open.end_reason();
                }
            }
            None => {
                open.text.push_str(text);
                open.text.push('\n');
            }
        }
    }

    fn begin(&mut self, number: usize, program: Option<&str>, headless: bool) -> &mut Open {
        self.close();
        let mut end = PastedEnd { headless, lines: Some(number..=number), ..PastedEnd::default() };
        end.sources.dump = true;
        if let Some((name, place, at)) = self.named.take() {
            (end.scheduler, end.place) = (Some(name), Some(place));
            end.extend_to(at);
        }
        self.open.insert(Open { end, program: program.map(str::to_owned), ..Open::default() })
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        open.end_reason();
        let dump = Dump { trigger: open.trigger.take(), ..Dump::parse(&open.text) };
        let mut end = open.end;
        // A dump that was asked for has the tasks of its scheduler only.
        if end.requested_by.is_none() {
            end.short = short(&dump);
        }
        // A head that stands alone, as in a text about dumps, is no dump.
        let is_one = !end.headless || !dump.cpus.is_empty() || !dump.tasks.is_empty();
        end.dump = Some(dump);
        if let Some(exit) = &mut end.exit {
            exit.dump = Some(open.text);
        }
        if is_one {
            self.ends.push(end);
        }
    }

    /// `sched_ext: demo: it said so` tells more of the end of `demo` that was told last.
    fn said(&mut self, name: &str, message: &str, number: usize) {
        let of_it = |end: &&mut PastedEnd| end.sources.kernel_log && end.scheduler.as_deref() == Some(name);
        let Some(end) = self.ends.iter_mut().rev().take(MATES).find(of_it) else { return };
        if let Some(exit) = end.exit.as_mut().filter(|exit| exit.message.is_none()) {
            exit.message = Some(message.to_owned());
            end.extend_to(number);
        }
    }
}

impl Open {
    /// The reason is whole, or not to be had.
    fn end_reason(&mut self) {
        let (Some((text, pieces)), Some(trigger)) = (self.reason.take(), &self.trigger) else { return };
        let (text, message) = reason(&text).filter(|_| pieces > 0).unwrap_or_default();
        self.end.exit = Some(exit(trigger.kind, text, message));
    }
}

/// CPUs that have more runnable tasks than the dump has of theirs.
fn short(dump: &Dump) -> Vec<Short> {
    let mut listed = std::collections::HashMap::new();
    for cpu in dump.tasks.iter().filter_map(|task| task.cpu) {
        *listed.entry(cpu).or_insert(0u64) += 1;
    }
    let of = |cpu: Cpu| listed.get(&cpu).copied().unwrap_or(0);
    let all = dump.cpus.iter().map(|cpu| Short { cpu: cpu.cpu, runnable: cpu.nr_run, listed: of(cpu.cpu) });
    all.filter(|one| one.listed < one.runnable).collect()
}

/// The ends, with what tells of the same one put together: the kernel's log, the dump, and what the scheduler's process says.
fn merged(ends: Vec<PastedEnd>) -> Vec<PastedEnd> {
    let mut out: Vec<PastedEnd> = Vec::new();
    for end in ends {
        let first = out.len().saturating_sub(MATES);
        let mate = out.iter().enumerate().skip(first).rev().find(|(_, other)| are_one(other, &end));
        match mate.map(|(at, _)| at).and_then(|at| out.get_mut(at)) {
            Some(mate) => put_together(mate, end),
            None => out.push(end),
        }
    }
    out
}

fn are_one(one: &PastedEnd, other: &PastedEnd) -> bool {
    let (a, b) = (one.sources, other.sources);
    let told_twice = a.dump && b.dump || a.kernel_log && b.kernel_log || a.exit_line && b.exit_line;
    let differ = |a: Option<&String>, b: Option<&String>| matches!((a, b), (Some(a), Some(b)) if a != b);
    if told_twice
        || differ(one.scheduler.as_ref(), other.scheduler.as_ref())
        || one.requested_by.is_some()
        || other.requested_by.is_some()
    {
        return false;
    }
    match (&one.exit, &other.exit) {
        (Some(a), Some(b)) => {
            !differ(a.reason.as_ref(), b.reason.as_ref()) && !differ(a.message.as_ref(), b.message.as_ref())
        }
        // A dump without its beginning, and what says how the scheduler ended.
        _ => true,
    }
}

fn put_together(one: &mut PastedEnd, other: PastedEnd) {
    let lines = other.lines.clone();
    // The dump's exit has its number.
    if other.sources.dump || one.exit.is_none() {
        let message = one.exit.as_ref().and_then(|exit| exit.message.clone());
        one.exit = other.exit.or(one.exit.take());
        if let Some(exit) = &mut one.exit {
            exit.message = exit.message.take().or(message);
        }
    } else if let (Some(exit), Some(more)) = (&mut one.exit, other.exit) {
        exit.message = exit.message.take().or(more.message);
        exit.reason = exit.reason.take().or(more.reason);
    }
    one.scheduler = one.scheduler.take().or(other.scheduler);
    one.place = one.place.take().or(other.place);
    if other.sources.dump {
        (one.dump, one.short, one.headless) = (other.dump, other.short, other.headless);
    }
    let (a, b) = (one.sources, other.sources);
    one.sources = Sources {
        dump: a.dump || b.dump,
        kernel_log: a.kernel_log || b.kernel_log,
        exit_line: a.exit_line || b.exit_line,
    };
    for number in lines.into_iter().flat_map(|lines| [*lines.start(), *lines.end()]) {
        one.extend_to(number);
    }
}
