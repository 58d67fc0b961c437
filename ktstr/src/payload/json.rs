//! The numbers of a payload's output.

use std::collections::BTreeMap;

use ktstr_replay::trace::record::Metric;
use serde_json::{Deserializer, Value};

use super::output::Stream;

/// Most beginnings of lines at which a JSON document is looked for in vain.
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
    let document = match last_document(text) {
        Some(document) => document,
        None => last_document(&with_words(text)).ok_or("has no JSON object or array that begins a line")?,
    };
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

/// The last object or array that begins at the begin of a line: programs write notes around it.
fn last_document(text: &str) -> Option<Value> {
    let (mut last, mut at, mut tries) = (None, 0, 0);
    while at < text.len() && tries < TRIES {
        let rest = text.get(at..)?;
        let line = rest.split_inclusive('\n').next().unwrap_or(rest);
        if line.trim_start().starts_with(['{', '[']) {
            let mut documents = Deserializer::from_str(rest).into_iter::<Value>();
            if let Some(Ok(document)) = documents.next() {
                at += documents.byte_offset().max(1);
                last = Some(document);
                continue;
            }
            tries += 1;
        }
        at += line.len();
    }
    last
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
            in_string = c != '"';
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

    #[test]
    fn what_has_no_numbers_says_why() {
        for (text, why) in [
            ("", "no JSON object"),
            ("iops 7", "no JSON object"),
            ("{\"a\": 1", "no JSON object"),
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
