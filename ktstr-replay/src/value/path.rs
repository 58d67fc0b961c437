//! Paths into values: `ctr.nr[3].x`.

use super::ValueError;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name`
    Field(String),
    /// `[index]`
    Index(u64),
}

/// Split a path into steps, each with the text up to its end. An empty path has none.
pub(super) fn parse(path: &str) -> Result<Vec<(Step, usize)>, ValueError> {
    parse_from(path, 0)
}

/// As [`parse`], for what follows `name`: `rest` is empty or begins with `.` or `[`.
pub(super) fn parse_below(name: &str, rest: &str) -> Result<Vec<(Step, usize)>, ValueError> {
    parse_from(&format!("{name}{rest}"), name.len())
}

fn parse_from(path: &str, start: usize) -> Result<Vec<(Step, usize)>, ValueError> {
    let bad = |at: usize, why| ValueError::BadPath { path: path.to_owned(), at: at + 1, why };
    let mut steps = Vec::new();
    let mut at = start;
    while let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) {
        if let Some(inner) = rest.strip_prefix('[') {
            let len = inner.find(']').ok_or_else(|| bad(at, "a `[` without its `]`"))?;
            let digits = inner.get(..len).unwrap_or_default().trim();
            let index = parse_index(digits).ok_or_else(|| bad(at + 1, "an index that is not a number"))?;
            at += len + 2;
            steps.push((Step::Index(index), at));
        } else {
            let name = match rest.strip_prefix('.') {
                Some(name) if at > 0 => {
                    at += 1;
                    name
                }
                Some(_) => return Err(bad(at, "a `.` with nothing before it")),
                // What a pointer points at begins anew.
                None if at > 0 && !path.get(..at).is_some_and(|done| done.ends_with("->")) => {
                    return Err(bad(at, "neither `.` nor `[`"));
                }
                None => rest,
            };
            let len = name.find(['.', '[']).unwrap_or(name.len());
            let name = name.get(..len).unwrap_or_default();
            if name.is_empty() {
                return Err(bad(at, "an empty name"));
            }
            if let Some(position) = name.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')) {
                return Err(bad(at + position, "a character that no name has"));
            }
            at += len;
            steps.push((Step::Field(name.to_owned()), at));
        }
    }
    Ok(steps)
}

/// Decimal, or hexadecimal after `0x`.
fn parse_index(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_alternate() {
        let steps: Vec<Step> =
            parse("ctr.nr[3][0x10].x").unwrap().into_iter().map(|(step, _)| step).collect();
        let field = |name: &str| Step::Field(name.into());
        assert_eq!(steps, [field("ctr"), field("nr"), Step::Index(3), Step::Index(16), field("x")]);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("[2].x").unwrap().len(), 2);
    }

    #[test]
    fn faults_are_pointed_at() {
        for (path, at) in
            [(".a", 1), ("a..b", 3), ("a[", 2), ("a[x]", 3), ("a b", 2), ("a[1]b", 5), ("a.", 3)]
        {
            match parse(path) {
                Err(ValueError::BadPath { at: found, .. }) => assert_eq!(found, at, "{path}"),
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_is_refused(path in "[a-c.\\[\\]0-9x é]{0,24}") {
            let _ = parse(&path);
        }
    }
}
