//! Text of a trace, which may come from anyone, made harmless to a terminal and to who reads it there.
//!
//! Whoever puts a string of a trace into a line cleans it ([`clean`], [`printable`]). [`plain_lines`] and [`plain_json`] are for
//! whole texts on their way out: the last guard, which shows what a terminal would obey.

/// Longest line that is shown, in characters.
const LINE_CHARS: usize = 180;
/// Longest line that is shown in pieces, in characters.
const WRAPPED_CHARS: usize = 1500;

/// `line` without control characters (a guest may write escape sequences) and not too long.
pub(crate) fn clean(line: &str) -> String {
    shorten(&printable(line), LINE_CHARS)
}

/// `line` without control characters, in pieces of at most `width` characters that end between words.
pub(crate) fn wrapped(line: &str, width: usize) -> Vec<String> {
    let line = shorten(&printable(line), WRAPPED_CHARS);
    let mut lines = Vec::new();
    let mut rest = line.as_str();
    while let Some((limit, _)) = rest.char_indices().nth(width) {
        let cut = rest[..limit].rfind(' ').filter(|cut| !rest[..*cut].trim().is_empty()).unwrap_or(limit);
        lines.push(rest[..cut].to_owned());
        rest = rest[cut..].trim_start();
    }
    lines.push(rest.to_owned());
    lines
}

/// Text of a trace, which may come from anyone, for a terminal: control characters and sequences are left out, a tab is
/// four spaces.
#[must_use]
pub fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push_str("    "),
            // A control sequence ends with a letter or another of `@` to `~` (ECMA-48, 5.4).
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            c if is_harmful(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// A name that a guest gave, on one line: control characters, and what else is harmful, are shown as `\n` or `\u{1b}`. A name is not
/// cut or made shorter otherwise, so that two names stay two.
#[must_use]
pub fn escaped(name: &str) -> String {
    let show = |c: char, out: &mut String| match c {
        '\n' | '\r' | '\t' => out.extend(c.escape_default()),
        c => out.extend(c.escape_unicode()),
    };
    escape(name, |_| false, show)
}

/// The first `max` characters, and `...` if there are more.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The last `max` lines that are not empty, and how many were before them.
pub(crate) fn tail(text: &str, max: usize) -> (Vec<String>, usize) {
    let lines: Vec<_> = text.lines().map(clean).filter(|l| !l.trim().is_empty()).collect();
    let before = lines.len().saturating_sub(max);
    (lines.into_iter().skip(before).collect(), before)
}

/// `1 capture`, `2 captures`.
pub(crate) fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Lines of evidence that are listed.
const LISTED: usize = 8;

/// The first of many lines, and how many there are more.
pub(crate) fn listed(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LISTED);
    lines.truncate(LISTED);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

/// Whether a character is not to be sent to a terminal: control characters are obeyed there, and those that turn the
/// direction of writing or part lines mislead who reads. Sources: ECMA-48; Unicode's UAX #9, 2. All are in the basic plane.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lines of which no character is harmful: those that are, newlines and tabs aside, are shown as escapes such as `\u{1b}`.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    escape(text, |c| matches!(c, '\n' | '\t'), |c, out| out.extend(c.escape_unicode()))
}

/// As [`plain_lines`], of a JSON text, which stays the same value: what is escaped can only be inside of its strings.
#[must_use]
pub fn plain_json(text: &str) -> String {
    let json = |c: char, out: &mut String| out.push_str(&format!("\\u{:04x}", u32::from(c)));
    escape(text, |c| matches!(c, '\n' | '\t' | '\r'), json)
}

/// `text` with what is harmful and not `kept` replaced by what `shown` appends. Idempotent.
fn escape(text: &str, kept: impl Fn(char) -> bool, shown: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) && !kept(c) {
            shown(c, &mut out);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_of_a_guest_do_not_reach_the_terminal() {
        assert_eq!(clean("\u{1b}[1;31mred\u{1b}[0m\u{7}\tx\r"), "red    x");
        assert_eq!(clean("\u{1b}]0;title\u{7} open \u{1b}[31"), "]0;title open ");
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        let cut = clean(&"\u{e4}".repeat(1000));
        assert!(cut.ends_with("...") && cut.chars().count() == LINE_CHARS + 3);
    }

    #[test]
    fn a_wrapped_line_keeps_its_words() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("onetwothree", 4), ["onet", "woth", "ree"]);
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped(" \u{e4}\u{e4}\u{e4}", 2), [" \u{e4}", "\u{e4}\u{e4}"]);
    }

    #[test]
    fn a_tail_counts_what_it_leaves_out() {
        assert_eq!(tail("a\n\nb\nc\n", 2), (vec!["b".to_owned(), "c".to_owned()], 1));
    }

    const EVIL: &str = "a\u{1b}[31m\u{9b}2J\u{7f}\u{202e}\r\n\tz";

    #[test]
    fn what_terminals_obey_is_shown_and_not_sent() {
        let shown = "a\\u{1b}[31m\\u{9b}2J\\u{7f}\\u{202e}\\u{d}\n\tz";
        assert_eq!(plain_lines(EVIL), shown);
        assert_eq!(plain_lines(shown), shown);
        assert_eq!(plain_lines("\u{e4}\u{4e16} \u{1f980}"), "\u{e4}\u{4e16} \u{1f980}");
    }

    #[test]
    fn a_name_stays_on_its_line_with_all_that_is_in_it() {
        assert_eq!(escaped("\nR [7] -9999ms\n"), "\\nR [7] -9999ms\\n");
        assert_eq!(escaped("a\t\u{1b}[31m\u{202e}\u{e4}"), "a\\t\\u{1b}[31m\\u{202e}\u{e4}");
    }

    #[test]
    fn json_stays_the_same_value() {
        let json = serde_json::json!({ EVIL: [EVIL, "\u{e4}\\\""] });
        let text = plain_json(&format!("{json:#}"));
        assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
    }
}
