//! Text that a guest wrote, made fit for a terminal.

use super::plain::is_harmful;

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
}
