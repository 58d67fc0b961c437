//! Places in maps: `map(ctrs).at(0).hits`, `map(stats).at(STAT_HITS)`.

use std::fmt;

use super::error::SyntaxError;
use super::field::{Dotted, FieldPath, write_cast};
use super::lex::TokenKind;
use super::parse::Parser;

/// A place in a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MapPath {
    /// The map's name.
    pub map: String,
    /// Which entry.
    pub entry: EntryKey,
    /// The part of its value; empty: the value itself.
    pub field: FieldPath,
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryKey {
    /// By index, of an array.
    At(u32),
    /// By key, of a hash.
    Key(u64),
    /// By index, which is an enumerator's value.
    AtNamed(String),
    /// By key, which is an enumerator's value.
    KeyNamed(String),
}

const SELECTORS: [(&str, bool); 2] = [("at", true), ("key", false)];

impl MapPath {
    /// `(name).at(0)`.
    pub(super) fn parse_head(p: &mut Parser<'_>) -> Result<(String, EntryKey), SyntaxError> {
        p.expect("(")?;
        let map = match p.peek() {
            TokenKind::Quoted(name) => {
                let name = name.clone();
                p.advance();
                name
            }
            _ => {
                let mut name = p.ident("the name of a map")?.0;
                while p.eat(".") {
                    name.push('.');
                    name.push_str(&p.ident("the rest of the map's name")?.0);
                }
                name
            }
        };
        p.expect(")")?;
        if !p.eat(".") {
            return Err(p.expected("`.at(index)` or `.key(number)`, to say which entry of the map"));
        }
        let by_index = p.name_of("map accessor", &SELECTORS)?;
        p.expect("(")?;
        let named = match p.peek() {
            TokenKind::Ident(name) => Some(name.clone()),
            _ => None,
        };
        let entry = match (named, by_index) {
            (Some(name), _) => {
                p.advance();
                if by_index { EntryKey::AtNamed(name) } else { EntryKey::KeyNamed(name) }
            }
            (None, true) => EntryKey::At(p.index("an index, or an enumerator")?),
            (None, false) => EntryKey::Key(p.index("a whole-number key, or an enumerator")?),
        };
        p.expect(")")?;
        Ok((map, entry))
    }
}

impl fmt::Display for MapPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cast(f, &self.head(), self.field.steps())
    }
}

impl MapPath {
    /// The text of the entry, without what follows.
    pub(crate) fn head(&self) -> String {
        let map = Dotted(&self.map);
        match &self.entry {
            EntryKey::At(i) => format!("map({map}).at({i})"),
            EntryKey::Key(k) => format!("map({map}).key({k})"),
            EntryKey::AtNamed(name) => format!("map({map}).at({name})"),
            EntryKey::KeyNamed(name) => format!("map({map}).key({name})"),
        }
    }
}
