//! `key = value` lists, read against a table of keys.

use std::collections::BTreeMap;

use proc_macro2::{Span, TokenStream};
use strsim::levenshtein;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Ident, Result, Token};

use crate::key::{Key, Place};
use crate::shape::Value;

/// The keys that were given, by name, and the table that they are in.
pub struct Args {
    keys: &'static [Key],
    given: BTreeMap<&'static str, (Ident, Value)>,
}

/// Errors that are reported together.
#[derive(Default)]
pub struct Faults(Option<Error>);

impl Faults {
    /// One more.
    pub fn add(&mut self, span: Span, message: impl std::fmt::Display) {
        let error = Error::new(span, message);
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// All of them, if there are any.
    pub fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Keys that people may know of and that are not there yet: each with one that is there in its place, and what is said of it.
const PLANNED: [(&str, &str, &str); 1] = [(
    "deterministic",
    "seed",
    "is not there yet: no machine counts instructions for its time, so two runs of a test differ. There is `seed = 7`: what is chosen at \
     random is chosen by it, `ctx.seed` among it",
)];

/// What is said of a key that is not there yet, where that in its place is.
fn planned(ident: &Ident, keys: &[Key]) -> Option<&'static str> {
    let has = |name: &str| keys.iter().any(|key| key.name == name);
    PLANNED.iter().find(|(name, instead, _)| ident == name && has(instead)).map(|(.., why)| *why)
}

impl Args {
    /// Read a comma separated list; a trailing comma may follow.
    ///
    /// # Errors
    /// The first key that is unknown or repeated, or whose value does not fit its shape; the error's span is the
    /// key's or the value's.
    pub fn parse(input: ParseStream<'_>, keys: &'static [Key]) -> Result<Self> {
        let mut given: BTreeMap<&'static str, (Ident, Value)> = BTreeMap::new();
        while !input.is_empty() {
            let ident = input.call(Ident::parse_any)?;
            let Some(key) = keys.iter().find(|key| ident == key.name) else {
                if let Some(why) = planned(&ident, keys) {
                    return Err(Error::new(ident.span(), format!("`{ident}` {why}")));
                }
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                let meant = alike(&ident.to_string(), &names)
                    .map_or_else(String::new, |name| format!(" did you mean `{name}`?"));
                return Err(Error::new(
                    ident.span(),
                    format!("unknown key `{ident}`;{meant} the keys are {}", names.join(", ")),
                ));
            };
            let value = key.read(&ident, input)?;
            if given.contains_key(key.name) {
                return Err(Error::new(ident.span(), format!("key `{ident}` is given twice")));
            }
            given.insert(key.name, (ident, value));
            if input.is_empty() {
                break;
            }
            input.parse::<Token![,]>()?;
        }
        Ok(Self { keys, given })
    }

    /// As [`Args::parse`], of tokens that hold nothing else.
    pub fn parse2(tokens: TokenStream, keys: &'static [Key]) -> Result<Self> {
        (|input: ParseStream<'_>| Self::parse(input, keys)).parse2(tokens)
    }

    /// Note every breach of what the rows require. A key that is missing is blamed on `whole`.
    pub fn check_rows(&self, whole: Span, faults: &mut Faults) {
        for key in self.keys {
            let name = key.name;
            let Some((ident, value)) = self.given.get(name) else {
                if key.required {
                    faults.add(whole, format!("key `{name}` is missing: {}", key.doc));
                }
                continue;
            };
            if self.is_set(name) {
                for (_, why) in key.needs.iter().filter(|(other, _)| !self.is_set(other)) {
                    faults.add(ident.span(), format!("`{name}` needs {why}"));
                }
            }
            if let (Some(why), Value::Text(text)) = (key.not_empty, value)
                && text.value().is_empty()
            {
                faults.add(ident.span(), format!("`{name}` is empty{why}"));
            }
        }
    }

    /// The fields of all keys that go into the field of their name.
    pub fn fields(&self) -> Result<TokenStream> {
        let keys = self.at(|place| place == Place::Field);
        keys.map(|key| key.field(self.value(key.name))).collect()
    }

    /// Those of the keys that were given.
    pub fn given_fields(&self) -> Result<TokenStream> {
        let keys = self.at(|place| place == Place::Field);
        keys.filter_map(|key| Some(key.field(Some(self.value(key.name)?)))).collect()
    }

    /// The rows with a place of this sort.
    pub fn at(&self, fits: impl Fn(Place) -> bool) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().filter(move |key| fits(key.place))
    }

    /// Where a key was given.
    pub fn span(&self, name: &str) -> Option<Span> {
        self.given.get(name).map(|(ident, _)| ident.span())
    }

    /// The value that was given.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.given.get(name).map(|(_, value)| value)
    }

    /// Whether a key was given, and not as `false` or an empty list.
    pub fn is_set(&self, name: &str) -> bool {
        match self.value(name) {
            None | Some(Value::Flag(false)) => false,
            Some(Value::Texts(texts)) => !texts.is_empty(),
            Some(_) => true,
        }
    }

    /// The number that was given, else the row's default.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Number(number)) => Some(*number),
            Some(_) => None,
            None => self.keys.iter().find(|key| key.name == name)?.default?.parse().ok(),
        }
    }
}

/// The name that is most like a misspelt one, if one is like it: one that has it as a whole word, as `sched_args` has `args`, before one
/// with other letters.
fn alike<'n>(wanted: &str, names: &[&'n str]) -> Option<&'n str> {
    let most = 1 + wanted.len() / 4;
    let has_word = |name: &&&str| name.split('_').any(|word| word == wanted);
    let with_word = names.iter().filter(has_word).min_by_key(|name| name.len());
    let close =
        names.iter().map(|name| (levenshtein(wanted, name), name)).filter(|(edits, _)| *edits <= most);
    with_word.or_else(|| close.min_by_key(|(edits, _)| *edits).map(|(_, name)| name)).copied()
}

#[cfg(test)]
mod tests {
    use syn::LitStr;

    use super::*;
    use crate::key::{count, key};
    use crate::shape::Shape;

    const KEYS: &[Key] = &[
        key("on", Shape::Flag, ""),
        key("count", count(1, 9, "things"), "").default("7"),
        key("words", Shape::Texts, "").needs(&[("on", "to be `on`")]),
        key("pick", Shape::Word { of: "Pick", words: &["a", "b"] }, ""),
        key("four", Shape::Four, ""),
        key("text", Shape::Text, "").not_empty(", which says nothing"),
    ];

    fn parse(text: &str) -> Result<Args> {
        (|input: ParseStream<'_>| Args::parse(input, KEYS)).parse_str(text)
    }

    fn error(text: &str) -> String {
        match parse(text) {
            Ok(_) => panic!("`{text}` was accepted"),
            Err(error) => error.to_string(),
        }
    }

    fn broken_rules(text: &str) -> Vec<String> {
        let mut faults = Faults::default();
        parse(text).expect("keys and values that fit").check_rows(Span::call_site(), &mut faults);
        let error = faults.into_result().err();
        error.into_iter().flatten().map(|error| error.to_string()).collect()
    }

    #[test]
    fn values_of_every_shape_are_read() -> Result<()> {
        let args = parse(r#"on, count = 3, words = ["x", "y"], pick = b, four = (1, 2, 3, 4),"#)?;
        assert!(args.is_set("on"));
        assert_eq!(args.number("count"), Some(3));
        let Some(Value::Texts(words)) = args.value("words") else { panic!("no words") };
        assert_eq!(words.iter().map(LitStr::value).collect::<Vec<_>>(), ["x", "y"]);
        let Some(Value::Text(pick)) = args.value("pick") else { panic!("no pick") };
        assert_eq!(pick.value(), "b");
        assert!(matches!(args.value("four"), Some(Value::Four([1, 2, 3, 4]))));
        Ok(())
    }

    #[test]
    fn absent_keys_are_none_or_their_default() -> Result<()> {
        let args = parse("")?;
        assert!(KEYS.iter().all(|key| args.value(key.name).is_none() && !args.is_set(key.name)));
        assert_eq!(args.number("count"), Some(7));
        let fields = args.fields()?.to_string();
        assert!(
            fields.contains("count : 7 , words : & [] , pick : :: core :: option :: Option :: None"),
            "{fields}"
        );
        Ok(())
    }

    #[test]
    fn values_become_what_their_field_takes() -> Result<()> {
        let fields = parse(r#"words = ["x"], pick = b, text = "t", count = 3"#)?.fields()?.to_string();
        for field in [
            "count : 3 ,",
            "words : & [\"x\"] ,",
            "pick : :: core :: option :: Option :: Some (:: ktstr :: __private :: Pick :: B) ,",
            "text : :: core :: option :: Option :: Some (\"t\") ,",
        ] {
            assert!(fields.contains(field), "no {field} in {fields}");
        }
        Ok(())
    }

    #[test]
    fn what_a_row_requires_is_checked_all_at_once() {
        assert_eq!(
            broken_rules(r#"words = ["x"], text = """#),
            ["`words` needs to be `on`", "`text` is empty, which says nothing"]
        );
        assert!(broken_rules("words = []").is_empty());
        assert!(broken_rules(r#"on, words = ["x"]"#).is_empty());
        assert_eq!(broken_rules(r#"on = false, words = ["x"]"#).len(), 1);
    }

    #[test]
    fn an_unknown_key_lists_the_keys() {
        assert_eq!(error("off"), "unknown key `off`; the keys are on, count, words, pick, four, text");
    }

    #[test]
    fn a_repeated_key_is_refused_even_with_the_same_value() {
        assert_eq!(error("on, on = true"), "key `on` is given twice");
    }

    #[test]
    fn numbers_outside_of_their_range_are_refused() {
        assert_eq!(error("count = 0"), "`count` is 0; it must be at least 1 things");
        assert_eq!(error("count = 10"), "`count` is 10; it must be from 1 to 9 things");
        assert_eq!(error("count = 99999999999999999999999"), "`count` takes an integer from 1 to 9");
    }

    #[test]
    fn a_value_of_the_wrong_shape_says_what_is_taken() {
        assert_eq!(error("count = \"3\""), "`count` takes an integer from 1 to 9");
        assert_eq!(error("on = 1"), "`on` takes `true` or `false`");
        assert_eq!(error("count"), "`count` needs a value: `count = 1`");
        assert_eq!(error("words = \"x\""), "`words` takes a list of strings, `[\"..\", \"..\"]`");
        assert_eq!(
            error("four = (1, 0, 1, 1)"),
            "`four` has a 0; each of (numa_nodes, llcs, cores, threads) must be at least 1"
        );
        assert_eq!(error("pick = c"), "`pick` is one of a, b, not `c`");
        assert_eq!(error("four = (1, 2)"), "`four` takes (numa_nodes, llcs, cores, threads)");
    }

    #[test]
    fn a_misspelt_name_is_like_the_one_that_was_meant() {
        let names = ["num_snapshots", "kargs", "sched_args", "cores", "llcs"];
        let found = |wanted| alike(wanted, &names);
        assert_eq!(found("num_snapshot"), Some("num_snapshots"));
        assert_eq!(found("args"), Some("sched_args"));
        assert_eq!((found("core"), found("llc")), (Some("cores"), Some("llcs")));
        assert_eq!((found("topology"), found("x")), (None, None));
    }
}
