//! apt's two formats of sources (`sources.list(5)`): deb822 stanzas, and one-line entries
//! `deb [ option=value ... ] uri suite component ...`.

use super::{SourceEntry, SyntaxError};

/// The enabled binary entries of a `*.sources` file.
pub(super) fn parse_deb822(text: &str) -> Result<Vec<SourceEntry>, SyntaxError> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(stanza(std::mem::take(&mut fields)));
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
    entries.extend(stanza(fields));
    Ok(entries)
}

/// The stanza's entry; `None` where it is empty, disabled or for sources only.
fn stanza(fields: Vec<(String, String)>) -> Option<SourceEntry> {
    let mut entry = SourceEntry::default();
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

/// The deb822 names of the options (`sources.list(5)`); others keep theirs, which apt ignores.
const OPTION_FIELDS: &[(&str, &str)] = &[
    ("arch", "Architectures"),
    ("lang", "Languages"),
    ("target", "Targets"),
    ("pdiffs", "PDiffs"),
    ("by-hash", "By-Hash"),
    ("allow-insecure", "Allow-Insecure"),
    ("allow-weak", "Allow-Weak"),
    ("allow-downgrade-to-insecure", "Allow-Downgrade-To-Insecure"),
    ("trusted", "Trusted"),
    ("signed-by", "Signed-By"),
    ("check-valid-until", "Check-Valid-Until"),
    ("valid-until-min", "Valid-Until-Min"),
    ("valid-until-max", "Valid-Until-Max"),
    ("check-date", "Check-Date"),
    ("date-max-future", "Date-Max-Future"),
    ("inrelease-path", "InRelease-Path"),
    ("snapshot", "Snapshot"),
];

/// The binary entries of a `*.list` file.
pub(super) fn parse_one_line(text: &str) -> Result<Vec<SourceEntry>, SyntaxError> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(entry) = line_entry(line).map_err(|message| SyntaxError { line: index + 1, message })? {
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn line_entry(line: &str) -> Result<Option<SourceEntry>, String> {
    let (kind, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if kind != "deb" {
        return Ok(None);
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        None => (Vec::new(), rest),
        Some(rest) => {
            let (inside, rest) =
                rest.split_once(']').ok_or("the options opened by `[` are not closed by `]`".to_owned())?;
            (inside.split_whitespace().map(option).collect::<Result<_, _>>()?, rest)
        }
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
        return Err("an entry needs a URI and a suite".to_owned());
    };
    Ok(Some(SourceEntry { uris: vec![uri], suites: vec![suite], components: words.collect(), options }))
}

fn option(word: &str) -> Result<(String, String), String> {
    let (name, value) = word.split_once('=').ok_or_else(|| format!("the option `{word}` has no `=`"))?;
    let (name, suffix) = match (name.strip_suffix('+'), name.strip_suffix('-')) {
        (Some(name), _) => (name, "-Add"),
        (_, Some(name)) => (name, "-Remove"),
        _ => (name, ""),
    };
    let field = OPTION_FIELDS.iter().find(|(short, _)| short.eq_ignore_ascii_case(name));
    let field = field.map_or(name, |(_, field)| field);
    Ok((format!("{field}{suffix}"), value.replace(',', " ")))
}
