//! Text of a trace, which may come from anyone, made harmless to a terminal and to who reads it there.
//!
//! Whoever puts a string of a trace into a line cleans it ([`super::printable`]). What is here is for whole texts on their
//! way out: the last guard, which shows what a terminal would obey.

/// Whether a character is not to be sent to a terminal: control characters are obeyed there, and those that turn the
/// direction of writing or part lines mislead who reads. Sources: ECMA-48; Unicode's UAX #9, 2. All are in the basic plane.
pub(crate) fn is_harmful(c: char) -> bool {
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

    const EVIL: &str = "a\u{1b}[31m\u{9b}2J\u{7f}\u{202e}\r\n\tz";

    #[test]
    fn what_terminals_obey_is_shown_and_not_sent() {
        let shown = "a\\u{1b}[31m\\u{9b}2J\\u{7f}\\u{202e}\\u{d}\n\tz";
        assert_eq!(plain_lines(EVIL), shown);
        assert_eq!(plain_lines(shown), shown);
        assert_eq!(plain_lines("\u{e4}\u{4e16} \u{1f980}"), "\u{e4}\u{4e16} \u{1f980}");
    }

    #[test]
    fn json_stays_the_same_value() {
        let json = serde_json::json!({ EVIL: [EVIL, "\u{e4}\\\""] });
        let text = plain_json(&format!("{json:#}"));
        assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), json);
    }
}
