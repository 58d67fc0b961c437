//! Text that a guest wrote, made fit for a terminal.

/// Longest line that is shown, in characters.
const LINE_CHARS: usize = 180;

/// `line` without control characters (a guest may write escape sequences) and not too long.
pub(super) fn clean(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push_str("    "),
            // A control sequence ends with a letter or another of `@` to `~` (ECMA-48, 5.4).
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    shorten(&out, LINE_CHARS)
}

/// The first `max` characters, and `...` if there are more.
pub(super) fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The last `max` lines that are not empty, and how many were before them.
pub(super) fn tail(text: &str, max: usize) -> (Vec<String>, usize) {
    let lines: Vec<_> = text.lines().map(clean).filter(|l| !l.trim().is_empty()).collect();
    let before = lines.len().saturating_sub(max);
    (lines.into_iter().skip(before).collect(), before)
}

/// `1 capture`, `2 captures`.
pub(super) fn counted(n: usize, what: &str) -> String {
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
    fn a_tail_counts_what_it_leaves_out() {
        assert_eq!(tail("a\n\nb\nc\n", 2), (vec!["b".to_owned(), "c".to_owned()], 1));
    }
}
