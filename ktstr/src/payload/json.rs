//! The numbers of a payload's output.

use std::collections::BTreeMap;

use ktstr_replay::trace::record::Metric;
use serde_json::{Deserializer, Value};

use super::output::Stream;

/// Most documents of several lines that cannot be read: each may be the rest of the text.
const TRIES: usize = 256;
/// What stands for words that are numbers in C and Python and that JSON does not have.
const WORDS: [(&str, f64); 3] = [("nan", f64::NAN), ("inf", f64::INFINITY), ("infinity", f64::INFINITY)];
/// Before such a word, in the string that takes its place.
const MARK: &str = "\u{1}ktstr ";

/// The numbers of the JSON on standard output, or else of that on standard error: the last document of each.
///
/// # Errors
/// Why there are none.
pub fn metrics(stdout: &Stream, stderr: &Stream) -> Result<Vec<Metric>, String> {
    let mut first = None;
    for (name, stream) in [("stdout", stdout), ("stderr", stderr)] {
        match of_text(&stream.head()) {
            Ok(found) => return Ok(found),
            Err(why) if stream.bytes > 0 => {
                let cut = if stream.is_cut() { ", of which only the first 4 MiB were kept" } else { "" };
                first = first.or_else(|| Some(format!("{name} {why}{cut}")));
            }
            Err(_) => {}
        }
    }
    Err(first.unwrap_or_else(|| "it wrote nothing".to_owned()))
}

fn of_text(text: &str) -> Result<Vec<Metric>, String> {
    let mut found = documents(text);
    if found.unread {
        // It may be one with words for numbers, and what was found then is no more than a part of it, or one before it.
        found = documents(&with_words(text));
    }
    let document = found.last.ok_or(match found.is_cut {
        true => "ends within a JSON object or array",
        false => "has no JSON object or array that begins a line and ends one",
    })?;
    let mut found = BTreeMap::new();
    let mut order = Vec::new();
    walk(&document, String::new(), &mut |path, value| {
        let times = found.entry(path.clone()).or_insert(0_u32);
        *times += 1;
        order.push((path, value));
    });
    // A path that means two numbers means none of them.
    let metrics: Vec<Metric> = order
        .into_iter()
        .filter(|(path, _)| found.get(path) == Some(&1))
        .map(|(path, value)| Metric { path, value })
        .collect();
    if metrics.is_empty() { Err("is JSON without numbers".to_owned()) } else { Ok(metrics) }
}

/// What looking for documents found.
#[derive(Default)]
struct Found {
    /// The last document: an object or array that begins in the first column of a line, and after which its last line is blank.
    /// Programs write notes around it.
    last: Option<Value>,
    /// Something that began like one could not be read.
    unread: bool,
    /// The last of these has no end.
    is_cut: bool,
}

fn documents(text: &str) -> Found {
    let (mut found, mut at, mut tries) = (Found::default(), 0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty() && tries < TRIES) {
        let mut end = line_end(rest, 0);
        if rest.starts_with(['{', '[']) {
            let mut documents = Deserializer::from_str(rest).into_iter::<Value>();
            match documents.next() {
                Some(Ok(document)) => {
                    let behind = documents.byte_offset();
                    end = line_end(rest, behind);
                    // `[1] done` is a line of a log.
                    if rest.get(behind..end).is_some_and(|behind| behind.trim().is_empty()) {
                        found.last = Some(document);
                    }
                }
                Some(Err(error)) => {
                    found.unread = true;
                    if error.is_eof() {
                        // What follows is parts of it.
                        found.is_cut = true;
                        break;
                    }
                    // So is a line that is wrong by itself, as `[info] ..`; its newline counts as the begin of the next one.
                    let is_of_line = error.line() < 2 || (error.line(), error.column()) == (2, 0);
                    tries += usize::from(!is_of_line);
                }
                None => {}
            }
        }
        at += end;
    }
    found
}

/// Where the line that has the byte `at` ends, with its newline.
fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| at + newline + 1)
}

fn walk(value: &Value, path: String, tell: &mut impl FnMut(String, f64)) {
    let inside = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| walk(value, inside(name), tell)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| walk(value, inside(&i.to_string()), tell));
        }
        Value::Number(number) => tell(path, number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => {
            if let Some(value) = text.strip_prefix(MARK).and_then(word) {
                tell(path, value);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// The number that a word means.
fn word(text: &str) -> Option<f64> {
    let (negative, name) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = WORDS.iter().find(|(word, _)| name.eq_ignore_ascii_case(word))?.1;
    Some(if negative { -value } else { value })
}

/// The text with `NaN`, `-inf` and the like, where they are no part of a string, made strings that mean them.
fn with_words(text: &str) -> String {
    let (mut out, mut rest, mut in_string) = (String::with_capacity(text.len()), text, false);
    while let Some(c) = rest.chars().next() {
        if in_string {
            let step = if c == '\\' { rest.chars().take(2).map(char::len_utf8).sum() } else { c.len_utf8() };
            // No string of JSON goes on in the next line; a quote in a note is none.
            in_string = c != '"' && !rest[..step].ends_with('\n');
            out.push_str(&rest[..step]);
            rest = &rest[step..];
            continue;
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if end == 0 {
            in_string = c == '"';
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        match word(&rest[..end]) {
            Some(_) => out.push_str(&format!("\"\\u0001{}{}\"", &MARK[1..], &rest[..end])),
            None => out.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Result<Vec<(String, f64)>, String> {
        Ok(of_text(text)?.into_iter().map(|metric| (metric.path, metric.value)).collect())
    }

    #[test]
    fn numeric_leaves_are_metrics_by_dotted_path() {
        let text = "fio: a note\n{\"a\": {\"b\": [1, {\"c d\": 2.5}], \"text\": \"7\", \"t\": true, \"n\": null}, \"e\": -3e2}\nbye";
        let expected = [("a.b.0", 1.0), ("a.b.1.c d", 2.5), ("e", -300.0)];
        assert_eq!(found(text).expect("numbers"), expected.map(|(path, value)| (path.to_owned(), value)));
        assert_eq!(found("[4]").expect("numbers"), [("0".to_owned(), 4.0)]);
    }

    #[test]
    fn of_several_documents_the_last_counts() {
        assert_eq!(found("{\"a\":1}\n{\"a\":2}\n").expect("numbers"), [("a".to_owned(), 2.0)]);
    }

    #[test]
    fn a_path_that_means_two_numbers_means_none() {
        assert_eq!(found("{\"a\":{\"b\":1},\"a.b\":2,\"c\":3}").expect("numbers"), [("c".to_owned(), 3.0)]);
    }

    #[test]
    fn words_for_no_number_are_values_and_not_faults() {
        let text = "{\"a\": NaN, \"b\": [-nan, Infinity, -inf], \"s\": \"NaN \\\" nan\", \"d\": 1.5}";
        let found = found(text).expect("numbers");
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["a", "b.0", "b.1", "b.2", "d"]);
        assert!(found[0].1.is_nan() && found[1].1.is_nan());
        assert_eq!((found[2].1, found[3].1, found[4].1), (f64::INFINITY, f64::NEG_INFINITY, 1.5));
    }

    /// What was found, where all is a number.
    fn numbers(text: &str) -> Vec<(String, f64)> {
        found(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn named(pairs: &[(&str, f64)]) -> Vec<(String, f64)> {
        pairs.iter().map(|&(path, value)| (path.to_owned(), value)).collect()
    }

    #[test]
    fn a_part_of_a_document_with_words_is_not_taken_for_it() {
        for inner in [" ", ""] {
            let text =
                ["{", "\"jobs\": [", "{\"x\": -nan}", "],", "\"disk_util\": [", "{\"util\": 1}", "]", "}"]
                    .join(&format!("\n{inner}"));
            let text = text.replace("\n }", "\n}");
            let found = numbers(&text);
            assert_eq!(found[..1], named(&[("disk_util.0.util", 1.0)]), "{text}");
            assert!(found.len() == 2 && found[1].0 == "jobs.0.x" && found[1].1.is_nan(), "{text}");
        }
        // The last one counts, also where only that one has words.
        let found = numbers("{\"a\": 1}\n{\"a\": inf}\n");
        assert_eq!(found, named(&[("a", f64::INFINITY)]));
    }

    #[test]
    fn parts_of_a_document_that_was_cut_are_no_documents() {
        for cut in [
            "{\n \"jobs\": [\n  {\"x\": 1},\n  {\"x\": 2},\n  {\"x\"",
            "{\n\"jobs\": [\n{\"x\": 1}\n,\n{\"x\": 2}\n",
            "[\n[1]\n,\n[NaN]\n,",
        ] {
            assert!(found(cut).expect_err(cut).contains("ends within a JSON object or array"), "{cut}");
            assert_eq!(numbers(&format!("{{\"a\": 1}}\n{cut}")), named(&[("a", 1.0)]), "{cut}");
        }
    }

    #[test]
    fn lines_of_a_log_neither_replace_nor_hide_a_document() {
        let document = "{\n  \"a\": 1\n}\n";
        for line in ["[1] done", "{} x", "[info] \"started", "[\"open", "[warn", "{thread 7}", "[]]", "[-"] {
            let lines = format!("{line}\n").repeat(2 * TRIES);
            assert_eq!(numbers(&format!("{lines}{document}{line}\n")), named(&[("a", 1.0)]), "{line}");
        }
        // Where a document has words, too, and a note has a quote.
        let text = "[info] a \"quote\nand one \\\n{\"a\": NaN, \"b\": 2}\n[2] 5\" long\n";
        assert_eq!(numbers(text)[1], ("b".to_owned(), 2.0));
    }

    #[test]
    fn of_two_members_of_one_name_the_last_counts() {
        assert_eq!(numbers("{\"a\": 1, \"a\": 2}\r\n"), named(&[("a", 2.0)]));
    }

    #[test]
    fn what_has_no_numbers_says_why() {
        for (text, why) in [
            ("", "no JSON object"),
            ("iops 7", "no JSON object"),
            ("{\"a\": 1", "ends within a JSON object"),
            (" {\"a\": 1}", "no JSON object"),
            ("{\"a\": 1} done", "no JSON object"),
            ("[1] done\n", "no JSON object"),
            ("{\n\"a\": 1\n}, {\"b\": 2}\n", "no JSON object"),
            ("x {\"a\": 1}", "no JSON object"),
            ("{\"a\": 1e999}", "no JSON object"),
            ("{\"a\": \"1\"}", "without numbers"),
            ("{}", "without numbers"),
        ] {
            let error = found(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_long_text_that_is_no_json_takes_no_long_time() {
        assert!(found(&"{\n".repeat(1 << 20)).is_err());
        assert!(found(&format!("{}1", "[".repeat(1 << 20))).is_err());
    }
}
