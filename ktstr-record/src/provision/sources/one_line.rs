//! One-line entries: `deb [ option=value ... ] uri suite component ...`.

use super::{Entry, SyntaxError};

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
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, SyntaxError> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(entry) = entry(line).map_err(|message| SyntaxError { line: index + 1, message })? {
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn entry(line: &str) -> Result<Option<Entry>, String> {
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
    Ok(Some(Entry { uris: vec![uri], suites: vec![suite], components: words.collect(), options }))
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
