//! Stanzas of `Field: value` lines, as in `*.sources` files (`deb822(5)`).

use super::{Entry, SyntaxError};

/// The enabled binary entries of a `*.sources` file.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(entry(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            let Some((_, value)) = fields.last_mut() else {
                let message = "a continuation line without a field before it".to_owned();
                return Err(SyntaxError { line: index + 1, message });
            };
            value.push('\n');
            value.push_str(line.trim_end());
        } else {
            let (name, value) = line.split_once(':').ok_or_else(|| SyntaxError {
                line: index + 1,
                message: format!("`{}` is not a `Field: value` line", line.trim()),
            })?;
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    entries.extend(entry(fields));
    Ok(entries)
}

/// The stanza's entry; `None` where it is empty, disabled or for sources only.
fn entry(fields: Vec<(String, String)>) -> Option<Entry> {
    let mut entry = Entry::default();
    let mut is_binary = false;
    for (name, value) in fields {
        let words = || value.split_whitespace().map(str::to_owned).collect();
        match name.to_ascii_lowercase().as_str() {
            "types" => is_binary = value.split_whitespace().any(|kind| kind == "deb"),
            "uris" => entry.uris = words(),
            "suites" => entry.suites = words(),
            "components" => entry.components = words(),
            "enabled" => {
                // apt's own list of words for false (StringToBool).
                let off = ["no", "false", "without", "off", "disable", "0"];
                if off.iter().any(|word| value.eq_ignore_ascii_case(word)) {
                    return None;
                }
            }
            _ => entry.options.push((name, value)),
        }
    }
    is_binary.then_some(entry)
}
