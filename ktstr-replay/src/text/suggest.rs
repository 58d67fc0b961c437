//! "Did you mean": names that exist, the likeliest first.

use std::fmt;

/// Names that exist where another was asked for. Displays as the end of a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The likeliest, if one is close.
    pub likely: Option<String>,
    /// Some of the names, closest first.
    pub names: Vec<String>,
    /// How many there are in all.
    pub total: usize,
}

/// Names that are listed in full.
const LISTED: usize = 12;
/// Names that are looked at; types from strangers can have any number.
const CONSIDERED: usize = 10_000;

impl Candidates {
    /// Rank `names` by how close they are to `wanted`.
    pub fn new<S: Into<String>>(wanted: &str, names: impl IntoIterator<Item = S>) -> Self {
        let mut ranked: Vec<(usize, String)> = names
            .into_iter()
            .take(CONSIDERED)
            .map(Into::into)
            .filter(|name| !name.is_empty())
            .map(|name| (distance(wanted, &name), name))
            .collect();
        ranked.sort();
        ranked.dedup();
        let total = ranked.len();
        let close = 1 + wanted.chars().count() / 3;
        let likely = ranked.first().filter(|&&(distance, _)| distance <= close).map(|(_, name)| name.clone());
        Self { likely, names: ranked.into_iter().take(LISTED).map(|(_, name)| name).collect(), total }
    }
}

/// Edit distance; a name that only lacks its beginning or end counts as close.
fn distance(wanted: &str, name: &str) -> usize {
    if wanted.len() >= 3 && name.contains(wanted) {
        return 1;
    }
    strsim::damerau_levenshtein(&clip(wanted), &clip(name))
}

/// The first characters: the distance takes time by the square of the length.
fn clip(name: &str) -> String {
    name.chars().take(64).collect()
}

impl fmt::Display for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(likely) = &self.likely {
            write!(f, "; did you mean `{likely}`?")?;
        }
        match (self.names.is_empty(), self.total > self.names.len()) {
            (true, _) => write!(f, "; there is nothing to choose from"),
            (false, false) => write!(f, "; there are: {}", self.names.join(", ")),
            (false, true) => write!(f, "; there are {}, such as: {}", self.total, self.names.join(", ")),
        }
    }
}

/// The one of `known` that is near enough to `name` to be worth asking about.
pub(crate) fn nearest(name: &str, known: &[&'static str]) -> Option<String> {
    Candidates::new(name, known.iter().copied()).likely
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_a_slip_and_not_another_word() {
        let known = ["nondecreasing", "strictly_increasing", "rate"];
        assert_eq!(nearest("nondecresing", &known).as_deref(), Some("nondecreasing"));
        assert_eq!(nearest("zebra", &known), None);
    }
}
