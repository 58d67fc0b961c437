//! Statistics that a scheduler served: for each capture an answer, which is JSON, and its members by path.
//!
//! The answers come from a guest, so nothing in them is trusted: they are parsed when they are asked for, to a bounded depth
//! and size, and one that cannot be used says why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value as Json;

use super::{Scalar, ValueError};
use crate::path::{AsPath, StatsPath, Step, path_text};
use crate::text::Candidates;
use crate::trace::record::{Event, EventBody};
use crate::units::GuestNs;

/// Longest answer that is parsed, in bytes: a value takes many times what its text does.
const MAX_BYTES: usize = 1 << 20;
/// Most leaves of an answer that are listed.
pub(crate) const MAX_LEAVES: usize = 2000;
/// Most bytes of their paths: of a long name that has many parts each path is long.
const MAX_PATH_BYTES: usize = 256 << 10;

/// Why there is no value where a scheduler's statistics were asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatsError {
    /// There are none in the whole trace.
    #[error(
        "the trace has no statistics of the scheduler: it serves none (at /var/run/scx/root/stats, as schedulers with scx_stats do)"
    )]
    None,
    /// There are some, but none of this capture.
    #[error("the scheduler was not asked for its statistics after this capture")]
    NotAsked,
    /// The path does not begin with what was asked for.
    #[error("the scheduler was not asked for `{target}`{candidates}")]
    Target {
        /// What the path begins with.
        target: String,
        /// What was asked for.
        candidates: Box<Candidates>,
    },
    /// It was asked, and did not answer.
    #[error("the scheduler's statistics did not come: {why}")]
    NoAnswer {
        /// What guest-init said.
        why: String,
    },
    /// It answered that it has none.
    #[error("the scheduler answered its statistics with error {errno}: {text}")]
    Refused {
        /// Number of the error.
        errno: i64,
        /// What it said of it.
        text: String,
    },
    /// Its answer is not one.
    #[error("the scheduler's answer is not what scx_stats answers: {why}")]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// An object has no such member.
    #[error("`{path}`: {reached} has no member `{wanted}`{candidates}")]
    NoMember {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
        /// The member that is not there.
        wanted: String,
        /// Members that are.
        candidates: Box<Candidates>,
    },
    /// An index past the end of an array.
    #[error("`{path}`: {reached} has {len} elements, so there is no [{index}]")]
    NoElement {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
        /// The index.
        index: u64,
        /// How many elements there are.
        len: usize,
    },
    /// The path goes on where there are no parts.
    #[error("`{path}`: {reached} is {kind}, so there is no {wanted} in it")]
    NoParts {
        /// The path that was asked for.
        path: String,
        /// The part of it that was found.
        reached: String,
        /// What is there.
        kind: &'static str,
        /// What follows in the path.
        wanted: String,
    },
    /// Something else is there than was asked for.
    #[error("`{path}` is {kind}, not {wanted}")]
    Kind {
        /// The path.
        path: String,
        /// What is there.
        kind: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// An object was asked for as if it were a number.
    #[error("`{path}` is an object, and not {wanted}: name one of its members{candidates}")]
    Object {
        /// The path.
        path: String,
        /// What was asked for.
        wanted: &'static str,
        /// The members.
        candidates: Box<Candidates>,
    },
}

/// The answers of a trace, by capture.
#[derive(Debug, Default)]
pub(crate) struct StatsAnswers(BTreeMap<u32, Vec<StatsReply>>);

/// What a scheduler answered when it was asked for its statistics after a capture.
#[derive(Debug)]
pub(crate) struct StatsReply {
    /// What it was asked for.
    pub target: String,
    /// When it was asked; `None`: it was not.
    pub asked_ns: Option<GuestNs>,
    /// When the answer came, or it was clear that none would.
    pub answered_ns: GuestNs,
    said: Result<Vec<u8>, String>,
    parsed: OnceLock<Result<Json, StatsError>>,
}

/// An answer as scx_stats makes it; its `errno` is 0, or its `resp` a text.
#[derive(Deserialize)]
struct Answer {
    errno: i64,
    args: BTreeMap<String, Json>,
}

impl StatsAnswers {
    pub(crate) fn of_events(events: &[Event]) -> Self {
        let mut answers: BTreeMap<u32, Vec<StatsReply>> = BTreeMap::new();
        for event in events {
            let EventBody::Stats(answer) = &event.body else { continue };
            answers.entry(answer.sample).or_default().push(StatsReply {
                target: answer.target.clone(),
                asked_ns: Some(answer.asked_ns).filter(|asked| asked.0 > 0),
                answered_ns: event.guest_ns,
                said: answer.fault.clone().map_or_else(|| Ok(answer.line.clone()), Err),
                parsed: OnceLock::new(),
            });
        }
        Self(answers)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answers after one capture, by the number of its sample.
    pub(crate) fn of_sample(&self, sample: u32) -> &[StatsReply] {
        self.0.get(&sample).map_or(&[], Vec::as_slice)
    }

    /// A member of the answer after one capture.
    pub(crate) fn at(&self, sample: u32, path: &StatsPath) -> Result<StatsValue<'_>, StatsError> {
        if self.is_empty() {
            return Err(StatsError::None);
        }
        let reply = self.of_sample(sample).iter().find(|reply| reply.target == path.target);
        let Some(reply) = reply else {
            let targets: BTreeSet<&str> =
                self.0.values().flatten().map(|reply| reply.target.as_str()).collect();
            return Err(match targets.contains(path.target.as_str()) {
                true => StatsError::NotAsked,
                false => StatsError::Target {
                    target: path.target.clone(),
                    candidates: Box::new(Candidates::new(&path.target, targets)),
                },
            });
        };
        let whole = StatsValue { path: path.head(), json: reply.json()? };
        whole.walk(path.member.steps())
    }
}

impl StatsReply {
    /// The statistics.
    pub(crate) fn json(&self) -> Result<&Json, StatsError> {
        let parse = || match &self.said {
            Ok(line) => parse(line),
            Err(why) => Err(StatsError::NoAnswer { why: why.clone() }),
        };
        self.parsed.get_or_init(parse).as_ref().map_err(StatsError::clone)
    }
}

/// The statistics in an answer.
fn parse(line: &[u8]) -> Result<Json, StatsError> {
    let malformed = |why: String| StatsError::Malformed { why };
    if line.len() > MAX_BYTES {
        return Err(malformed(format!("it has {} bytes, and at most {MAX_BYTES} are read", line.len())));
    }
    let Answer { errno, mut args } =
        serde_json::from_slice(line).map_err(|error| malformed(error.to_string()))?;
    let answer = args.remove("resp").ok_or_else(|| malformed("it has no `resp`".to_owned()))?;
    match (errno, answer) {
        (0, answer) => Ok(answer),
        (errno, Json::String(text)) => Err(StatsError::Refused { errno, text }),
        (errno, other) => Err(StatsError::Refused { errno, text: other.to_string() }),
    }
}

/// Some of the statistics that a scheduler served: a number, a text, an object with members, an array.
#[derive(Clone, Debug, PartialEq)]
pub struct StatsValue<'s> {
    path: String,
    json: &'s Json,
}

impl<'s> StatsValue<'s> {
    /// A part of it: a member by name, an element by index. A number names a member of an object, too.
    ///
    /// # Errors
    /// [`ValueError::Stats`] with what is there instead; [`ValueError::BadPath`].
    pub fn get(&self, path: &(impl AsPath + ?Sized)) -> Result<Self, ValueError> {
        Ok(self.walk(&path.steps()?)?)
    }

    fn walk(&self, steps: &[Step]) -> Result<Self, StatsError> {
        let whole = || path_text(&self.path, steps);
        let mut json = self.json;
        for (done, step) in steps.iter().enumerate() {
            let reached = || path_text(&self.path, steps.get(..done).unwrap_or_default());
            let wanted = || path_text(&"", std::slice::from_ref(step));
            let name = match step {
                Step::Field(name) => name.clone(),
                Step::Index(index) => index.to_string(),
                _ => wanted(),
            };
            json = match (json, step) {
                (Json::Object(members), Step::Field(_) | Step::Index(_)) => {
                    members.get(&name).ok_or_else(|| StatsError::NoMember {
                        path: whole(),
                        reached: reached(),
                        candidates: Box::new(Candidates::new(&name, members.keys())),
                        wanted: name.clone(),
                    })?
                }
                (Json::Array(elements), Step::Index(index)) => {
                    let element = usize::try_from(*index).ok().and_then(|index| elements.get(index));
                    element.ok_or_else(|| StatsError::NoElement {
                        path: whole(),
                        reached: reached(),
                        index: *index,
                        len: elements.len(),
                    })?
                }
                (other, _) => {
                    return Err(StatsError::NoParts {
                        path: whole(),
                        reached: reached(),
                        kind: kind(other),
                        wanted: format!("`{}`", wanted()),
                    });
                }
            };
        }
        Ok(Self { path: whole(), json })
    }

    fn not(&self, wanted: &'static str) -> ValueError {
        let path = self.path.clone();
        ValueError::from(match self.json {
            Json::Object(members) => {
                StatsError::Object { path, wanted, candidates: Box::new(Candidates::new("", members.keys())) }
            }
            other => StatsError::Kind { path, kind: kind(other), wanted },
        })
    }

    /// The number or truth value. Whole numbers of 64 bits are exact, others are as near as a double is.
    ///
    /// # Errors
    /// [`ValueError::Stats`] for anything else, also for `null`, as which Rust writes what is not a number.
    pub fn scalar(&self) -> Result<Scalar, ValueError> {
        match self.json {
            Json::Bool(is) => Ok(Scalar::Bool(*is)),
            Json::Number(number) => {
                let whole = number.as_u64().map(Scalar::from).or_else(|| number.as_i64().map(Scalar::from));
                whole.or_else(|| number.as_f64().map(Scalar::Float)).ok_or_else(|| self.not("a number"))
            }
            _ => Err(self.not("a number")),
        }
    }

    fn whole(&self) -> Result<i128, ValueError> {
        self.scalar()?.to_i128().ok_or_else(|| self.not("a whole number"))
    }

    /// As an unsigned integer.
    ///
    /// # Errors
    /// As [`StatsValue::scalar`]; for numbers with a fraction; [`ValueError::OutOfRange`] for negative ones.
    pub fn as_u64(&self) -> Result<u64, ValueError> {
        let value = self.whole()?;
        let wanted = "64 unsigned bits";
        u64::try_from(value).map_err(|_| ValueError::OutOfRange { value: value.to_string(), wanted })
    }

    /// As a signed integer.
    ///
    /// # Errors
    /// As [`StatsValue::as_u64`].
    pub fn as_i64(&self) -> Result<i64, ValueError> {
        let value = self.whole()?;
        let wanted = "64 signed bits";
        i64::try_from(value).map_err(|_| ValueError::OutOfRange { value: value.to_string(), wanted })
    }

    /// As a floating point number.
    ///
    /// # Errors
    /// As [`StatsValue::scalar`].
    pub fn as_f64(&self) -> Result<f64, ValueError> {
        self.scalar().map(Scalar::to_f64)
    }

    /// As a truth value.
    ///
    /// # Errors
    /// [`ValueError::Stats`] for anything else.
    pub fn as_bool(&self) -> Result<bool, ValueError> {
        self.json.as_bool().ok_or_else(|| self.not("a truth value"))
    }

    /// The text.
    ///
    /// # Errors
    /// [`ValueError::Stats`] for anything else.
    pub fn as_str(&self) -> Result<&'s str, ValueError> {
        self.json.as_str().ok_or_else(|| self.not("a text"))
    }

    /// The elements of an array.
    ///
    /// # Errors
    /// [`ValueError::Stats`] for anything else.
    pub fn as_array(&self) -> Result<Vec<Self>, ValueError> {
        let elements = self.json.as_array().ok_or_else(|| self.not("an array"))?;
        let element = |(index, json)| Self { path: format!("{}[{index}]", self.path), json };
        Ok(elements.iter().enumerate().map(element).collect())
    }

    /// As it was answered.
    #[must_use]
    pub fn json(&self) -> &'s Json {
        self.json
    }
}

/// What a value is, with its article.
fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null, which is how NaN is written",
        Json::Bool(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// The numbers, texts and truth values in some statistics.
#[derive(Debug, Default)]
pub(crate) struct StatsLeaves<'j> {
    /// By path, in the order of the names: at most 2000, and none after the one at which all paths together have 256 KiB.
    pub found: Vec<(String, &'j Json)>,
    /// Whether there are more.
    pub is_cut: bool,
    path_bytes: usize,
}

/// Those of `json`.
pub(crate) fn stats_leaves(json: &Json) -> StatsLeaves<'_> {
    let mut leaves = StatsLeaves::default();
    leaves.add(json, &mut Vec::new());
    leaves
}

impl<'j> StatsLeaves<'j> {
    /// As deep as the answer was parsed.
    fn add(&mut self, json: &'j Json, steps: &mut Vec<Step>) {
        let mut part = |step, part| {
            if !self.is_cut {
                steps.push(step);
                self.add(part, steps);
                steps.pop();
            }
        };
        match json {
            Json::Object(members) if !members.is_empty() => {
                members.iter().for_each(|(name, member)| part(Step::Field(name.clone()), member));
            }
            Json::Array(elements) if !elements.is_empty() => {
                elements.iter().zip(0..).for_each(|(element, index)| part(Step::Index(index), element));
            }
            _ if self.found.len() >= MAX_LEAVES || self.path_bytes >= MAX_PATH_BYTES => self.is_cut = true,
            leaf => {
                let path = path_text(&"", steps);
                self.path_bytes = self.path_bytes.saturating_add(path.len());
                self.found.push((path, leaf));
            }
        }
    }
}

#[cfg(test)]
mod tests;
