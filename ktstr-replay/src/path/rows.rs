//! Rows of tables as values: `max(tasks.runnable_ms where class == ext)`, `dsqs[0x1].nr`, `cgroups[/cg_0].cpu_ms`.
//!
//! The tables are those of the views of a checkpoint, see [`crate::columns`]; here are only the words.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::error::SyntaxError;
use super::lex::{TokenKind, is_word};
use super::number::{Bound, Cmp};
use super::parse::{Parser, names};

names! {
    /// A table of a checkpoint.
    TableName {
        /// The threads.
        Tasks = "tasks",
        /// The runqueues of the CPUs.
        Runqueues = "runqueues",
        /// The dispatch queues.
        Dsqs = "dsqs",
        /// The cgroups.
        Cgroups = "cgroups",
        /// The BPF maps.
        Maps = "maps",
    }
}

names! {
    /// How rows become one number.
    Aggregate {
        /// The greatest.
        Max = "max",
        /// The least.
        Min = "min",
        /// The sum.
        Sum = "sum",
        /// The mean.
        Mean = "mean",
        /// How many there are.
        Count = "count",
    }
}

/// Some rows of a table, and the column that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowsPath {
    /// The table.
    pub table: TableName,
    /// The column; `None` for rows that are only counted.
    pub column: Option<String>,
    /// What has to hold of a row, all of it.
    pub filter: Vec<Condition>,
}

/// One cell of a table: the row by the column that names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CellPath {
    /// The table.
    pub table: TableName,
    /// Which row.
    pub key: RowKey,
    /// The column.
    pub column: String,
}

/// What names a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RowKey {
    /// A number: a pid, a CPU, the id of a queue or map.
    Number(u64),
    /// A text: the path of a cgroup, the name of a map or queue.
    Text(String),
}

/// What has to hold of a row.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The column.
    pub column: String,
    /// What its value is held against.
    pub test: Test,
}

/// What a cell is held against.
#[derive(Clone, Debug)]
pub enum Test {
    /// A bound on a number.
    Number(Bound),
    /// Equal to a text (`true`), or another (`false`).
    Is(bool, String),
    /// The text has this within.
    Contains(String),
}

// By their text, which has all there is to them: floats have no equality that a hash could go by.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_string().hash(state);
    }
}

/// A text that needs no quotes: words, with points or slashes between them.
fn is_plain(text: &str) -> bool {
    let words = text.strip_prefix('/').unwrap_or(text);
    text == "/" || words.split(['/', '.']).all(|word| is_word(word) && word.is_ascii())
}

/// A text as the parser takes it: bare where it is `bare`, else in quotes.
fn quoted(text: &str, bare: bool) -> impl fmt::Display {
    fmt::from_fn(move |f| match bare {
        true => f.write_str(text),
        false => write!(f, "\"{text}\""),
    })
}

/// A text that a row is compared with.
pub(super) fn plain(text: &str) -> impl fmt::Display {
    quoted(text, is_plain(text))
}

/// A name as the parser takes it: bare where it is a word, else in quotes.
pub(super) fn word(text: &str) -> impl fmt::Display {
    quoted(text, is_word(text))
}

/// A text in quotes, or made of words with points or slashes between them.
fn text(p: &mut Parser<'_>, what: &str) -> Result<String, SyntaxError> {
    if let TokenKind::Quoted(text) = p.peek() {
        let text = text.clone();
        p.advance();
        return Ok(text);
    }
    let mut text = String::new();
    if p.eat("/") {
        text.push('/');
        if !p.touches() || !matches!(p.peek(), TokenKind::Ident(_)) {
            return Ok(text);
        }
    }
    // Names of tasks are seldom words alone: `kworker/0:0`.
    let in_quotes = |text: &str| format!("a word, or the whole text in quotes: `\"{text}...\"`");
    loop {
        if !text.is_empty() && !matches!(p.peek(), TokenKind::Ident(_)) {
            return Err(p.expected(in_quotes(&text)));
        }
        text.push_str(&p.ident(what)?.0);
        match p.peek() {
            TokenKind::Sign(sign @ ("/" | ".")) if p.touches() => {
                text.push_str(sign);
                p.advance();
            }
            TokenKind::End | TokenKind::Sign(")" | "]") => return Ok(text),
            _ if p.touches() => return Err(p.expected(in_quotes(&text))),
            _ => return Ok(text),
        }
    }
}

impl TableName {
    /// The table of that name, in the plural or, as an index follows, `cgroup` for one of them.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        let word = if word == "cgroup" { "cgroups" } else { word };
        Self::ALL.iter().find(|(name, _)| *name == word).map(|(_, table)| *table)
    }
}

impl RowsPath {
    /// What stands between the parentheses of an aggregate, the table's name taken.
    pub(super) fn parse(p: &mut Parser<'_>, table: TableName, of: Aggregate) -> Result<Self, SyntaxError> {
        let counts = of == Aggregate::Count;
        let column = match p.eat(".") {
            true => Some(p.name("a column of the table")?),
            false if counts => None,
            false => return Err(p.expected(format!("`.` and a column of `{}`", table.name()))),
        };
        let mut filter = Vec::new();
        if p.eat_word("where") {
            filter.push(Condition::parse(p)?);
            while p.eat_word("and") {
                filter.push(Condition::parse(p)?);
            }
        }
        Ok(Self { table, column, filter })
    }
}

impl CellPath {
    /// What follows `tasks[`.
    pub(super) fn parse(p: &mut Parser<'_>, table: TableName) -> Result<Self, SyntaxError> {
        let key = match p.peek() {
            TokenKind::Number(_) => RowKey::Number(p.index("a number that names a row")?),
            _ => RowKey::Text(text(p, "what names a row: a number, a path, or a text in quotes")?),
        };
        p.expect("]")?;
        if !p.eat(".") {
            return Err(p.expected("`.` and a column"));
        }
        Ok(Self { table, key, column: p.name("a column of the table")? })
    }
}

impl Condition {
    fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        Ok(Self { column: p.name("a column of the table")?, test: Test::parse(p)? })
    }
}

impl Test {
    /// What stands behind the name of a column or a field.
    pub(super) fn parse(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let equal = |p: &mut Parser<'_>, sign, cmp, is| {
            if !p.eat(sign) {
                return Ok(None);
            }
            let test = match p.peek() {
                TokenKind::Number(_) => Self::Number(Bound::Cmp(cmp, p.number()?)),
                _ => Self::Is(is, text(p, "a number or a text")?),
            };
            Ok(Some(test))
        };
        Ok(if p.eat("~") {
            Self::Contains(text(p, "a text that is to be within")?)
        } else if let Some(test) = equal(p, "==", Cmp::Equal, true)? {
            test
        } else if let Some(test) = equal(p, "!=", Cmp::NotEqual, false)? {
            test
        } else {
            let found = p.bound_if_any()?;
            Self::Number(found.ok_or_else(|| p.expected("`==`, `!=`, `~`, `in` or another comparison"))?)
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", word(&self.column), self.test)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(bound) => write!(f, "{bound}"),
            Self::Is(true, text) => write!(f, "== {}", plain(text)),
            Self::Is(false, text) => write!(f, "!= {}", plain(text)),
            Self::Contains(text) => write!(f, "~ {}", plain(text)),
        }
    }
}

impl fmt::Display for RowsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.table.name())?;
        if let Some(column) = &self.column {
            write!(f, ".{}", word(column))?;
        }
        for (position, condition) in self.filter.iter().enumerate() {
            write!(f, " {} {condition}", if position == 0 { "where" } else { "and" })?;
        }
        Ok(())
    }
}

impl fmt::Display for CellPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.table.name())?;
        match &self.key {
            RowKey::Number(number) if self.table == TableName::Dsqs => write!(f, "{number:#x}")?,
            RowKey::Number(number) => write!(f, "{number}")?,
            RowKey::Text(text) => write!(f, "{}", plain(text))?,
        }
        write!(f, "].{}", word(&self.column))
    }
}

#[cfg(test)]
mod tests {
    use crate::path::{Projection, SyntaxError};

    #[test]
    fn every_form_parses_and_prints() {
        for text in [
            "max(tasks.runnable_ms where class == ext)",
            "count(tasks where comm ~ spin and state == R)",
            "count(tasks)",
            "count(tasks where comm ~ \"a b\")",
            "count(tasks where cpu in 0..2 and nice != -5)",
            "mean(runqueues.nr where cpu >= 1)",
            "sum(maps.entries where name == demo.bss)",
            "min(dsqs.nr)",
            "dsqs[0x1].nr",
            "dsqs[GLOBAL].nr",
            "cgroups[/cg_0].tasks",
            "cgroups[/].tasks",
            "cgroups[\"/a b\"].tasks",
            "count(tasks where cgroup == /cg_0/x)",
            "count(tasks where cgroup == / and nice == 0)",
            "tasks[105].runnable_ms",
            "maps[demo.bss].entries",
            "count(root)",
            "count(map(trees).at(0).root)",
            "(u8)dsqs[0x1].nr",
        ] {
            let parsed: Projection = text.parse().unwrap_or_else(|e: SyntaxError| panic!("{}", e.render()));
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!(
            "cgroup[/cg_0].cpu_ms".parse::<Projection>().unwrap().to_string(),
            "cgroups[/cg_0].cpu_ms"
        );
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, at) in [
            ("max(tasks)", 9..10),
            ("max(x.y)", 4..5),
            ("max(tasks.", 10..10),
            ("count(tasks where)", 17..18),
            ("count(tasks where comm spin)", 23..27),
            ("count(tasks where comm ~ 5)", 25..26),
            ("dsqs[].nr", 5..6),
            ("dsqs[1]", 7..7),
            ("count(rq[1].nr_running)", 22..23),
        ] {
            let error = text.parse::<Projection>().expect_err(text);
            assert_eq!(error.span, at, "{}", error.render());
        }
    }

    #[test]
    fn a_text_that_needs_quotes_says_so() {
        for text in [
            "count(tasks where comm == kworker/0:0)",
            "count(tasks where comm == a:b)",
            "count(tasks where comm ~ stress-ng and cpu == 1)",
            "tasks[kworker/0:0].prio",
        ] {
            let error = text.parse::<Projection>().expect_err(text).render();
            assert!(error.contains("or the whole text in quotes: `\""), "{error}");
        }
    }
}
