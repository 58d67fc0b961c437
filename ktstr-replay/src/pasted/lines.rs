//! Pasted text as the lines that the kernel wrote: in their order, whole, and indented as they were.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::prefix::strip;

/// Most lines that are read.
pub(super) const MAX_LINES: usize = 400_000;
/// Longest line that is read, in bytes: what is longer is no line of a dump.
const MAX_LINE_BYTES: usize = 4096;
/// Lines that one is put together of, at most.
const MAX_PIECES: usize = 4;
/// Prefixes that are at least so wide, in characters, may be blanks in the lines that a message goes on with.
const WIDE_PREFIX: usize = 16;

/// `R name[pid] *root -3044ms`, without what is before it.
static HEAD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\*?[A-Za-z] .*\[\d+\] (?:\*?(?:root|sub\d+-\d+) )?[+-]\d+ms$").ok());
/// The same, without its end.
static HEAD_BEGUN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\*?[A-Za-z] .*\[\d+\](?: \*?(?:root|sub\d+-\d+))?$").ok());

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line<'t> {
    pub text: Cow<'t, str>,
    /// Its number in the file, from 1.
    pub number: usize,
    /// The program that wrote it, where a journal says so.
    pub program: Option<Cow<'t, str>>,
}

/// What was found of the lines.
pub(super) struct Lines<'t> {
    pub lines: Vec<Line<'t>>,
    /// They were in reversed order, as `journalctl -r` has them.
    pub reversed: bool,
    /// There are more than were read.
    pub cut: bool,
}

/// The lines of a pasted text.
pub(super) fn lines(text: &str) -> Lines<'_> {
    let cut = text.lines().nth(MAX_LINES).is_some();
    let mut wide = 0;
    let mut lines = Vec::new();
    for (line, number) in text.lines().take(MAX_LINES).zip(1..) {
        let Some(line) = cleaned(line) else { continue };
        let (text, program) = match line {
            Cow::Borrowed(line) => {
                let found = undone(line, &mut wide);
                (Cow::Borrowed(found.0), found.1.map(Cow::Borrowed))
            }
            Cow::Owned(line) => {
                let found = undone(&line, &mut wide);
                (Cow::Owned(found.0.to_owned()), found.1.map(|program| Cow::Owned(program.to_owned())))
            }
        };
        lines.push(Line { text, number, program });
    }
    let reversed = is_reversed(&lines);
    if reversed {
        lines.reverse();
    }
    let mut lines = joined(lines);
    indent(&mut lines);
    Lines { lines, reversed, cut }
}

/// A line without what a page or a terminal has around it; `None` for one that is only that.
fn cleaned(line: &str) -> Option<Cow<'_, str>> {
    let line = line[..line.floor_char_boundary(MAX_LINE_BYTES)].trim_end();
    let bare = line.trim_start_matches(['>', ' ']);
    if bare.starts_with("```") || bare == "~~~" {
        return None;
    }
    let mut line = Cow::Borrowed(line);
    if line.contains('\t') {
        line = Cow::Owned(untabbed(&line));
    }
    if line.contains(['\u{1b}', '\u{a0}', '\u{feff}']) {
        let plain = crate::text::printable(&line.replace('\u{a0}', " ").replace('\u{feff}', ""));
        line = Cow::Owned(plain);
    }
    if line.contains('<') {
        let tags = ["<pre>", "</pre>", "<code>", "</code>", "<br>", "<br/>", "<details>", "</details>"];
        let without = tags.iter().fold(line.to_string(), |line, tag| line.replace(tag, ""));
        if without.len() < line.len() {
            line = Cow::Owned(without);
        }
    }
    if line.contains('&') {
        // `&amp;` last: what it makes is not to be read again.
        let entities =
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&nbsp;", " "), ("&amp;", "&")];
        let plain = entities.iter().fold(line.to_string(), |line, (from, to)| line.replace(from, to));
        line = Cow::Owned(plain);
    }
    Some(line)
}

/// Tabs as blanks up to the next of every eight columns.
fn untabbed(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 8);
    let mut column = 0;
    for c in line.chars() {
        let width = if c == '\t' { 8 - column % 8 } else { 1 };
        if c == '\t' {
            out.extend(std::iter::repeat_n(' ', width));
        } else {
            out.push(c);
        }
        column += width;
    }
    out
}

/// A line without its prefixes; `wide` is how many characters those of the line before were.
fn undone<'l>(line: &'l str, wide: &mut usize) -> (&'l str, Option<&'l str>) {
    let found = strip(line);
    if found.rest.len() < line.len() {
        *wide = line.len() - found.rest.len();
        return (found.rest, found.program);
    }
    // `journalctl` puts blanks before the further lines of a message.
    let blanks = line.bytes().take_while(|byte| *byte == b' ').count();
    if *wide >= WIDE_PREFIX && blanks >= *wide {
        return (&line[*wide..], None);
    }
    (line, None)
}

/// What a line of a dump is, where it can be told without those around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Cpu,
    Curr,
    Head,
    State,
    Sticky,
    Vtime,
    Mask,
    Title,
    Disabled,
    Said,
}

/// What a line is; `None` for all others.
pub(super) fn form(line: &str) -> Option<Form> {
    let bare = line.trim();
    let starts = |begin: &str| bare.starts_with(begin);
    Some(match bare.as_bytes().first()? {
        b'C' if starts("CPU ") && bare.contains("nr_run=") => Form::Cpu,
        b'C' if bare == "CPU states" => Form::Title,
        b'c' if starts("curr=") => Form::Curr,
        b'c' if starts("cpus=") => Form::Mask,
        b's' if starts("scx_state/flags=") => Form::State,
        b's' if starts("sticky/holding_cpu=") => Form::Sticky,
        b's' if starts("sched_ext: BPF ") && bare.contains(" disabled (") => Form::Disabled,
        b's' if starts("sched_ext: ") => Form::Said,
        b'd' if starts("dsq_vtime=") => Form::Vtime,
        _ if bare.ends_with("ms") && is(&HEAD, bare) => Form::Head,
        _ => return None,
    })
}

fn is(regex: &LazyLock<Option<Regex>>, line: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(line))
}

/// Whether more lines stand after what they should stand before than not.
fn is_reversed(lines: &[Line<'_>]) -> bool {
    use Form::{Cpu, Curr, Disabled, Head, Mask, Said, State, Sticky, Title, Vtime};
    const FOLLOW: [(Form, Form); 8] = [
        (Cpu, Curr),
        (Head, State),
        (State, Sticky),
        (Sticky, Vtime),
        (Sticky, Mask),
        (Vtime, Mask),
        (Title, Cpu),
        (Disabled, Said),
    ];
    let (mut forward, mut backward) = (0, 0);
    let mut before = None;
    for line in lines {
        let Some(form) = form(&line.text) else { continue };
        if let Some(before) = before {
            forward += usize::from(FOLLOW.contains(&(before, form)));
            backward += usize::from(FOLLOW.contains(&(form, before)));
        }
        before = Some(form);
    }
    backward > forward
}

/// Lines that were wrapped, put together again.
fn joined(lines: Vec<Line<'_>>) -> Vec<Line<'_>> {
    let mut out: Vec<Line<'_>> = Vec::with_capacity(lines.len());
    let mut pieces = 1;
    for line in lines {
        let may_go_on = form(&line.text).is_none_or(|form| matches!(form, Form::Vtime | Form::Mask))
            && !line.text.trim().is_empty()
            && pieces < MAX_PIECES;
        let whole = out.last().filter(|_| may_go_on).and_then(|last| with_rest(&last.text, line.text.trim()));
        match (out.last_mut(), whole) {
            (Some(last), Some(whole)) => {
                last.text = Cow::Owned(whole);
                pieces += 1;
            }
            _ => {
                out.push(line);
                pieces = 1;
            }
        }
    }
    out
}

/// A line that lacks its end, with what may be that; `None` if it lacks none, or that is not it.
fn with_rest(line: &str, rest: &str) -> Option<String> {
    let whole = || format!("{} {rest}", line.trim_end());
    if is_begun(line) {
        return Some(whole());
    }
    let is_head = is(&HEAD_BEGUN, line.trim()) && rest.ends_with("ms");
    Some(whole()).filter(|whole| is_head && is(&HEAD, whole.trim()))
}

/// Whether a line lacks its end.
fn is_begun(line: &str) -> bool {
    let bare = line.trim();
    let lacks = |begin: &str, end: &str| bare.starts_with(begin) && !bare.contains(end);
    match form(bare) {
        Some(Form::Cpu) => !bare.contains(" flags=0x"),
        Some(Form::Curr) => !bare.contains(" class="),
        Some(Form::Sticky) => !bare.contains("dsq_id="),
        Some(Form::State) => !bare.contains("ops_state/qseq="),
        Some(Form::Disabled) => !bare.ends_with(')'),
        Some(_) => false,
        None => {
            let disabled = lacks("sched_ext: BPF ", " disabled (") && !bare.contains(" enabled");
            disabled || lacks("EXIT: ", ")") && bare.contains('(')
        }
    }
}

/// Give the lines of dumps the indentation that the kernel gave them: all of a dump may be indented further, or not at all.
fn indent(lines: &mut [Line<'_>]) {
    // How much further than the kernel's, by the nearest line below of which that is known.
    let mut further: i64 = 0;
    for line in lines.iter_mut().rev() {
        let form = form(&line.text);
        let blanks = line.text.len() - line.text.trim_start().len();
        let kernels = match form {
            Some(Form::Cpu | Form::Title) => Some(0),
            Some(Form::State | Form::Sticky | Form::Vtime | Form::Mask) => Some(6),
            Some(Form::Curr) => Some(10),
            _ => None,
        };
        if let Some(kernels) = kernels {
            further = blanks as i64 - kernels;
        }
        if form == Some(Form::Head) && (further < 0 || blanks == 0) {
            let bare = line.text.trim_start();
            let margin = if bare.starts_with('*') { " " } else { "  " };
            line.text = Cow::Owned(format!("{margin}{bare}"));
        } else if further > 0 && blanks > 0 {
            let off = blanks.min(usize::try_from(further).unwrap_or(0));
            let off = if form == Some(Form::Head) { off.min(blanks.saturating_sub(1)) } else { off };
            line.text = Cow::Owned(line.text.get(off..).unwrap_or_default().to_owned());
        }
    }
}
