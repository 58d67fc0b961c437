//! Numbers, ranges and times as claims have them.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Range, RangeFrom, RangeInclusive, RangeTo, RangeToInclusive};

use super::parse::names;

/// A number in a claim. Whole ones are kept exact, so that a 64-bit counter compares without rounding.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Written without a point or an exponent.
    Int(i128),
    /// Written with one.
    Float(f64),
}

impl Number {
    /// The nearest floating-point number.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(i) => i as f64,
            Self::Float(x) => x,
        }
    }

    /// Whether it is not a number.
    pub(crate) fn is_nan(self) -> bool {
        self.as_f64().is_nan()
    }

    /// Order by value; `None` when either is NaN.
    pub fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(&b)),
            (a, b) => a.as_f64().partial_cmp(&b.as_f64()),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.compare(*other) == Some(Ordering::Equal)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(i) => write!(f, "{i}"),
            Self::Float(x) => write!(f, "{x:?}"),
        }
    }
}

macro_rules! number_from {
    ($variant:ident($wide:ty): $($t:ty),*) => {
        $(impl From<$t> for Number {
            fn from(value: $t) -> Self {
                Self::$variant(<$wide>::from(value))
            }
        })*
    };
}
number_from!(Int(i128): u8, u16, u32, u64, i8, i16, i32, i64, i128);
number_from!(Float(f64): f32, f64);

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        // Lossless: no target has pointers of more than 64 bits.
        Self::Int(value as i128)
    }
}

names! {
    /// How a value is compared.
    Cmp {
        /// `>=`
        AtLeast = ">=",
        /// `>`
        Above = ">",
        /// `<=`
        AtMost = "<=",
        /// `<`
        Below = "<",
        /// `==`
        Equal = "==",
        /// `!=`
        NotEqual = "!=",
    }
}

impl Cmp {
    fn holds(self, order: Option<Ordering>) -> bool {
        // NaN is not equal to anything, but that is no reason to say that a bound holds for it.
        let Some(order) = order else { return false };
        match self {
            Self::AtLeast => order.is_ge(),
            Self::Above => order.is_gt(),
            Self::AtMost => order.is_le(),
            Self::Below => order.is_lt(),
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
        }
    }
}

/// A range with the meaning that it has in Rust: `a..b` leaves b out, `a..=b` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    /// Least number in it; `None`: no lower end.
    pub start: Option<Number>,
    /// Upper end, and whether it is itself in the range; `None`: no upper end.
    pub end: Option<(Number, bool)>,
}

impl Band {
    /// Whether `x` lies in it. NaN never does.
    pub fn contains(&self, x: Number) -> bool {
        x.compare(x).is_some()
            && self.start.is_none_or(|lo| Cmp::AtLeast.holds(x.compare(lo)))
            && self.end.is_none_or(|(hi, has)| {
                let cmp = if has { Cmp::AtMost } else { Cmp::Below };
                cmp.holds(x.compare(hi))
            })
    }

    /// Whether no number at all lies in it.
    pub fn is_empty(&self) -> bool {
        match (self.start, self.end) {
            (Some(lo), Some((hi, _))) if lo == hi => !self.contains(lo),
            (Some(lo), Some((hi, _))) => lo.compare(hi) != Some(Ordering::Less),
            _ => false,
        }
    }
}

impl fmt::Display for Band {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lo) = self.start {
            write!(f, "{lo}")?;
        }
        f.write_str("..")?;
        match self.end {
            Some((hi, true)) => write!(f, "={hi}"),
            Some((hi, false)) => write!(f, "{hi}"),
            None => Ok(()),
        }
    }
}

impl<T: Into<Number>> From<Range<T>> for Band {
    fn from(r: Range<T>) -> Self {
        Self { start: Some(r.start.into()), end: Some((r.end.into(), false)) }
    }
}

impl<T: Into<Number> + Clone> From<RangeInclusive<T>> for Band {
    fn from(r: RangeInclusive<T>) -> Self {
        Self { start: Some(r.start().clone().into()), end: Some((r.end().clone().into(), true)) }
    }
}

impl<T: Into<Number>> From<RangeFrom<T>> for Band {
    fn from(r: RangeFrom<T>) -> Self {
        Self { start: Some(r.start.into()), end: None }
    }
}

impl<T: Into<Number>> From<RangeTo<T>> for Band {
    fn from(r: RangeTo<T>) -> Self {
        Self { start: None, end: Some((r.end.into(), false)) }
    }
}

impl<T: Into<Number>> From<RangeToInclusive<T>> for Band {
    fn from(r: RangeToInclusive<T>) -> Self {
        Self { start: None, end: Some((r.end.into(), true)) }
    }
}

/// What a number is held against: `>= 1`, or `in 0..100`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// A comparison.
    Cmp(Cmp, Number),
    /// A range.
    In(Band),
}

impl Bound {
    /// Whether it holds for `x`. It never does for NaN.
    pub fn holds(&self, x: Number) -> bool {
        match self {
            Self::Cmp(cmp, n) => cmp.holds(x.compare(*n)),
            Self::In(band) => band.contains(x),
        }
    }
}

impl Bound {
    /// Whether it holds for all whole numbers from `lo` to `hi`, both included, or for none of them; `None`: for some.
    pub(crate) fn over(&self, lo: i128, hi: i128) -> Option<bool> {
        // What is said of a number changes only at the ends of the bound.
        let ends: Vec<Number> = match self {
            Self::Cmp(_, n) => vec![*n],
            Self::In(band) => band.start.into_iter().chain(band.end.map(|(end, _)| end)).collect(),
        };
        let near = ends.into_iter().flat_map(|end| {
            let (below, above) = match end {
                Number::Int(n) => (n, n),
                // As a cast saturates, the limits of the type stand for what is beyond them.
                Number::Float(x) => (x.floor() as i128, x.ceil() as i128),
            };
            [below.saturating_sub(1), below, above, above.saturating_add(1)]
        });
        let mut all =
            near.filter(|n| (lo..=hi).contains(n)).chain([lo, hi]).map(|n| self.holds(Number::Int(n)));
        let first = all.next()?;
        all.all(|holds| holds == first).then_some(first)
    }
}

impl<T: Into<Band>> From<T> for Bound {
    fn from(band: T) -> Self {
        Self::In(band.into())
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cmp(cmp, n) => write!(f, "{} {n}", cmp.name()),
            Self::In(band) => write!(f, "in {band}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_compare_beyond_the_precision_of_floats() {
        let a = Number::from(u64::MAX);
        let b = Number::from(u64::MAX - 1);
        assert_eq!(a.compare(b), Some(Ordering::Greater));
        assert!(a != b && a.as_f64() == b.as_f64());
    }

    #[test]
    fn ranges_mean_what_they_mean_in_rust() {
        assert!(Band::from(0..100).contains(99.into()) && !Band::from(0..100).contains(100.into()));
        assert!(Band::from(0..=100).contains(100.into()));
        assert!(Band::from(5..).contains(5.into()) && Band::from(..5.0).contains(Number::Float(4.9)));
        assert!(Band::from(5..5).is_empty() && !Band::from(5..=5).is_empty());
        let backwards = Band { start: Some(7.into()), end: Some((3.into(), true)) };
        assert!(backwards.is_empty());
    }

    #[test]
    fn a_bound_over_a_range_is_that_over_each_number_of_it() {
        let ends =
            [Number::Int(3), Number::Int(5), Number::Float(3.5), Number::Float(-0.5), Number::Int(i128::MAX)];
        let mut bounds = Vec::new();
        for lo in ends {
            bounds.extend(Cmp::ALL.iter().map(|(_, cmp)| Bound::Cmp(*cmp, lo)));
            for (hi, has) in ends.iter().flat_map(|hi| [(hi, true), (hi, false)]) {
                bounds.push(Bound::In(Band { start: Some(lo), end: Some((*hi, has)) }));
                bounds.push(Bound::In(Band { start: None, end: Some((*hi, has)) }));
            }
        }
        for bound in &bounds {
            for (lo, hi) in (-2..8).flat_map(|lo| (lo..8).map(move |hi| (lo, hi))) {
                let each: Vec<bool> = (lo..=hi).map(|n| bound.holds(n.into())).collect();
                let expected = each.iter().all(|holds| *holds == each[0]).then_some(each[0]);
                assert_eq!(bound.over(lo, hi), expected, "{bound} over {lo}..={hi}");
            }
        }
        assert_eq!(Bound::from(0..100).over(0, i128::MAX), None);
        assert_eq!(Bound::Cmp(Cmp::AtLeast, 5.into()).over(5, i128::MAX), Some(true));
    }

    #[test]
    fn nan_satisfies_no_bound_at_all() {
        let nan = Number::Float(f64::NAN);
        for (_, cmp) in Cmp::ALL {
            assert!(!Bound::Cmp(*cmp, Number::Int(1)).holds(nan), "{cmp:?}");
        }
        assert!(!Bound::from(0..100).holds(nan));
        assert!(!Bound::from(Band { start: None, end: None }).holds(nan));
    }
}
