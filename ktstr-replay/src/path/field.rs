//! Paths into values, `a->b.c[2]`: parsed once, printed exactly, walked step by step.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::str::FromStr;

use super::error::SyntaxError;
use super::lex::{TokenKind, is_name, is_word};
use super::parse::Parser;
use crate::units::Cpu;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `.name`: a member of a struct or union.
    Field(String),
    /// `[index]`: an element of an array, or a node of a tree or list.
    Index(u64),
    /// `[NAME]`: the element whose index an enumerator of the program says.
    Named(String),
    /// `(TYPE)` before all that is before this step: that, as another type. In C's words, `u64` or `struct rq *`, words apart by
    /// one blank.
    Cast(String),
    /// `->`: what a pointer points at. A [`Step::Field`] follows it where the path was parsed.
    Deref,
}

/// The steps of a path; none of them is the value itself.
///
/// ```
/// use ktstr_replay::path::{FieldPath, Step};
///
/// let path: FieldPath = "ctx->hist[0x10]".parse()?;
/// assert_eq!(path.steps()[1..], [Step::Deref, Step::Field("hist".into()), Step::Index(16)]);
/// assert_eq!(path.to_string(), "ctx->hist[16]");
/// # Ok::<(), ktstr_replay::path::SyntaxError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldPath {
    steps: Vec<Step>,
}

/// What can be given where a path is asked for: its text, which is parsed at each call, or its parsed steps.
pub trait AsPath {
    /// The steps.
    ///
    /// # Errors
    /// [`SyntaxError`], where the text is not a path.
    fn steps(&self) -> Result<Cow<'_, [Step]>, SyntaxError>;
}

impl AsPath for str {
    fn steps(&self) -> Result<Cow<'_, [Step]>, SyntaxError> {
        self.parse().map(|path: FieldPath| Cow::Owned(path.steps))
    }
}

impl AsPath for String {
    fn steps(&self) -> Result<Cow<'_, [Step]>, SyntaxError> {
        self.as_str().steps()
    }
}

impl AsPath for [Step] {
    fn steps(&self) -> Result<Cow<'_, [Step]>, SyntaxError> {
        Ok(Cow::Borrowed(self))
    }
}

impl AsPath for FieldPath {
    fn steps(&self) -> Result<Cow<'_, [Step]>, SyntaxError> {
        Ok(Cow::Borrowed(&self.steps))
    }
}

impl<P: AsPath + ?Sized> AsPath for &P {
    fn steps(&self) -> Result<Cow<'_, [Step]>, SyntaxError> {
        (**self).steps()
    }
}

impl FieldPath {
    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A path of one name, whatever characters the name has.
    pub(crate) fn of_name(name: impl Into<String>) -> Self {
        Self { steps: vec![Step::Field(name.into())] }
    }

    /// The same with further steps.
    pub(super) fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// What follows of `.cpu(1)` and steps.
    pub(super) fn parse_on_cpu(p: &mut Parser<'_>) -> Result<(Option<Cpu>, Self), SyntaxError> {
        let (mut cpu, mut path) = (None, Self::default());
        if p.eat(".") {
            let name = p.name("a field, or `cpu(..)`")?;
            if name == "cpu" && p.eat("(") {
                cpu = Some(Cpu(p.index("a CPU number")?));
                p.expect(")")?;
            } else {
                path = Self::of_name(name);
            }
        }
        path.parse_more(p)?;
        Ok((cpu, path))
    }

    /// A path that is a part of a longer text.
    pub(crate) fn parse_in(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        Self::parse_cast(p)
    }

    /// A path, with the casts before it: `(s64)x`, `((struct foo *)x)->y`, `(struct foo)` of the value itself.
    fn parse_cast(p: &mut Parser<'_>) -> Result<Self, SyntaxError> {
        let casts = parse_casts(p)?;
        let mut path = Self::default();
        if p.enter_group()? {
            path = Self::parse_cast(p)?;
            p.expect(")")?;
            p.leave_group();
        } else if p.eat(".") || matches!(p.peek(), TokenKind::Ident(_) | TokenKind::Quoted(_)) {
            path = Self::of_name(p.name("the name of a field")?);
        }
        path.parse_more(p)?;
        Ok(path.then(casts))
    }

    /// Take the steps that follow in a longer text.
    pub(super) fn parse_more(&mut self, p: &mut Parser<'_>) -> Result<(), SyntaxError> {
        loop {
            if p.eat("[") {
                self.steps.push(match p.peek() {
                    TokenKind::Ident(name) => {
                        let name = name.clone();
                        p.advance();
                        Step::Named(name)
                    }
                    _ => Step::Index(p.index("an index, or an enumerator")?),
                });
                p.expect("]")?;
                continue;
            }
            if p.eat("->") {
                self.steps.push(Step::Deref);
            } else if !p.eat(".") {
                return Ok(());
            }
            self.steps.push(Step::Field(p.name("the name of a field")?));
        }
    }
}

impl FromIterator<Step> for FieldPath {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

impl FromStr for FieldPath {
    type Err = SyntaxError;

    /// The empty text is the empty path. A point at the beginning means nothing: `.bss.x` is `bss.x`.
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        Parser::whole(text, Self::parse_cast)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cast(f, "", &self.steps)
    }
}

/// The casts that stand here, as steps: the one that is written last is taken first.
pub(super) fn parse_casts(p: &mut Parser<'_>) -> Result<Vec<Step>, SyntaxError> {
    let mut casts = Vec::new();
    while p.cast_follows() {
        p.expect("(")?;
        casts.push(Step::Cast(c_type(p, ")")?));
    }
    casts.reverse();
    Ok(casts)
}

/// The words of a C type up to `end`, which is taken too.
pub(super) fn c_type(p: &mut Parser<'_>, end: &str) -> Result<String, SyntaxError> {
    let mut text = p.ident("a type, such as `u64` or `struct rq`")?.0;
    loop {
        if p.eat(end) {
            return Ok(text);
        }
        if p.eat("*") {
            text.push_str(if text.ends_with('*') { "*" } else { " *" });
            continue;
        }
        match p.peek() {
            TokenKind::Ident(word) if !text.ends_with('*') => {
                text.push(' ');
                text.push_str(word);
                p.advance();
            }
            _ => return Err(p.expected(format!("`{end}`"))),
        }
    }
}

/// The text of `steps` from what is called `root`, which may have no name.
pub(crate) fn path_text(root: &dyn fmt::Display, steps: &[Step]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_cast(&mut text, &root.to_string(), steps);
    text
}

/// The text of `steps` from `root` on. A cast stands before all that it is of; where more follows it, both are in parentheses.
pub(super) fn write_cast(out: &mut dyn Write, root: &str, steps: &[Step]) -> fmt::Result {
    // From the last step on: each cast opens what the ones before it are written into.
    let mut end = steps.len();
    let (mut before, mut parts) = (String::new(), Vec::new());
    while let Some(at) =
        steps.get(..end).unwrap_or_default().iter().rposition(|step| matches!(step, Step::Cast(_)))
    {
        let after = steps.get(at + 1..end).unwrap_or_default();
        if let Some(Step::Cast(words)) = steps.get(at) {
            let group = if after.is_empty() { "" } else { "(" };
            before.push_str(&format!("{group}({words})"));
        }
        parts.push(after);
        end = at;
    }
    out.write_str(&before)?;
    out.write_str(root)?;
    write_steps(out, root.is_empty(), steps.get(..end).unwrap_or_default())?;
    for after in parts.into_iter().rev().filter(|after| !after.is_empty()) {
        out.write_str(")")?;
        write_steps(out, false, after)?;
    }
    Ok(())
}

/// `begins`: nothing stands before the steps, so that the first name has no point. There is no cast in them.
fn write_steps(out: &mut dyn Write, begins: bool, steps: &[Step]) -> fmt::Result {
    let mut bare = begins;
    for (position, step) in steps.iter().enumerate() {
        match step {
            Step::Field(name) => {
                out.write_str(if bare { "" } else { "." })?;
                // A number can only follow a point or an arrow.
                let plain = if begins && position == 0 { is_word(name) } else { is_name(name) };
                match plain {
                    true => out.write_str(name)?,
                    false => write!(out, "\"{name}\"")?,
                }
            }
            Step::Index(index) => write!(out, "[{index}]")?,
            Step::Named(name) => write!(out, "[{name}]")?,
            // `write_cast` has put it where it belongs.
            Step::Cast(_) => {}
            Step::Deref => out.write_str("->")?,
        }
        bare = *step == Step::Deref;
    }
    Ok(())
}

/// A name that may have points in it, as the grammar writes it: in quotes where it is not made of words.
pub(crate) struct Dotted<'n>(pub &'n str);

impl fmt::Display for Dotted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.0.split('.').next().unwrap_or_default();
        match is_word(first) && self.0.split('.').all(is_name) {
            true => f.write_str(self.0),
            false => write!(f, "\"{}\"", self.0),
        }
    }
}

/// What follows `name` in `steps`, if they begin with it. A name with points in it is one step or several.
pub(crate) fn after_name<'s>(steps: &'s [Step], name: &str) -> Option<&'s [Step]> {
    let (mut rest, mut name) = (steps, name);
    loop {
        let (Step::Field(first), after) = rest.split_first()? else { return None };
        name = name.strip_prefix(first.as_str())?;
        rest = after;
        if name.is_empty() {
            return Some(rest);
        }
        name = name.strip_prefix('.')?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(name: &str) -> Step {
        Step::Field(name.into())
    }

    fn steps(text: &str) -> Vec<Step> {
        text.parse::<FieldPath>().unwrap_or_else(|e| panic!("{}", e.render())).steps
    }

    #[test]
    fn names_indices_and_pointers_are_steps() {
        let all = [field("ctr"), field("nr"), Step::Index(3), Step::Index(16), Step::Deref, field("x")];
        assert_eq!(steps("ctr.nr[3][0x10]->x"), all);
        assert_eq!(steps(""), []);
        assert_eq!(steps("[2].x"), [Step::Index(2), field("x")]);
        assert_eq!(steps(".bss.x"), steps("bss.x"));
    }

    #[test]
    fn names_need_not_be_those_of_c() {
        for (text, all) in [
            ("gr\u{f6}\u{df}e.$x", vec![field("gr\u{f6}\u{df}e"), field("$x")]),
            ("count.1.2", vec![field("count"), field("1"), field("2")]),
            ("t.0->0", vec![field("t"), field("0"), Step::Deref, field("0")]),
            ("\"a b\".\"c-d\"[1]", vec![field("a b"), field("c-d"), Step::Index(1)]),
            ("\"0\"", vec![field("0")]),
        ] {
            assert_eq!(steps(text), all);
            assert_eq!(FieldPath { steps: all }.to_string(), text);
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (path, at) in
            [("..a", 1), ("a..b", 2), ("a[", 3), ("a[-]", 3), ("a b", 3), ("a[1]b", 5), ("a.", 3), ("a->", 4)]
        {
            let error = path.parse::<FieldPath>().expect_err(path);
            assert_eq!(error.column(), at, "{}", error.render());
        }
        let error = "a[".parse::<FieldPath>().unwrap_err();
        assert_eq!(error.fault.to_string(), "expected an index, or an enumerator, found the end of the path");
    }

    #[test]
    fn casts_stand_before_what_they_are_of() {
        let cast = |words: &str| Step::Cast(words.into());
        for (text, all) in [
            ("(s64)x.y", vec![field("x"), field("y"), cast("s64")]),
            ("(u8)(struct a *)x", vec![field("x"), cast("struct a *"), cast("u8")]),
            (
                "((struct a *)x.data)->y[1]",
                vec![field("x"), field("data"), cast("struct a *"), Step::Deref, field("y"), Step::Index(1)],
            ),
            (
                "(u8)((struct a)((u64)x)[NAME]).y",
                vec![
                    field("x"),
                    cast("u64"),
                    Step::Named("NAME".into()),
                    cast("struct a"),
                    field("y"),
                    cast("u8"),
                ],
            ),
            ("(struct a)", vec![cast("struct a")]),
            ("((struct a)).x", vec![cast("struct a"), field("x")]),
        ] {
            assert_eq!(steps(text), all, "{text}");
            assert_eq!(FieldPath { steps: all }.to_string(), text);
        }
        let deep = format!("{}(u8)x{}", "(".repeat(2000), ")".repeat(2000));
        assert!(deep.parse::<FieldPath>().unwrap_err().to_string().contains("nested"));
    }

    #[test]
    fn a_name_with_points_is_one_step_or_several() {
        for text in ["data.uei.kind[1]", "\"data.uei\".kind[1]"] {
            let steps = steps(text);
            assert_eq!(path_text(&"x", after_name(&steps, "data.uei").unwrap()), "x.kind[1]");
            assert_eq!(after_name(&steps, "data.ue"), None);
            assert_eq!(after_name(&steps, "data.uei.kind.x"), None);
        }
        assert_eq!(after_name(&steps("a"), ""), None);
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_and_what_parses_prints(path in "[a-c.\\[\\]0-9x \u{e9}\"$>()*-]{0,24}") {
            if let Ok(parsed) = path.parse::<FieldPath>() {
                prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
            }
        }
    }
}
