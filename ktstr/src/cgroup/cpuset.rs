//! The CPUs of a cgroup, said in terms of the machine.

use crate::cpu_set::CpuSet;
use crate::guest_topo::GuestTopology;

/// Which CPUs a cgroup gets.
///
/// ```
/// use ktstr::prelude::*;
///
/// let half = |index| CpusetSpec::Disjoint { index, of: 2 };
/// let defs = vec![CgroupDef::named("left").cpuset(half(0)), CgroupDef::named("right").cpuset(half(1))];
/// let shared = CgroupDef::named("shared").cpuset(CpusetSpec::Overlap { index: 0, of: 2, frac: 0.5 });
/// # let _ = (defs, shared);
///
/// /// The CPUs that these are on the machine of the test, for a body that looks at them.
/// fn left_half(ctx: &Ctx) -> Result<CpuSet> {
///     Ok(CpusetSpec::Disjoint { index: 0, of: 2 }.resolve(&ctx.topo)?)
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum CpusetSpec {
    /// Those of an LLC, by number.
    Llc(usize),
    /// Those of a NUMA node, by number.
    Numa(usize),
    /// From `start` up to, not including, `end`.
    Range {
        /// First CPU.
        start: u32,
        /// One past the last CPU.
        end: u32,
    },
    /// Part `index` of the machine's CPUs, cut into `of` parts of about the same size.
    Disjoint {
        /// Which part, from 0.
        index: usize,
        /// How many parts.
        of: usize,
    },
    /// As `Disjoint`, and of the part after it (after the last: the first) as many CPUs more as `frac` of the own ones are.
    Overlap {
        /// Which part, from 0.
        index: usize,
        /// How many parts.
        of: usize,
        /// From 0 to 1.
        frac: f64,
    },
    /// These.
    Exact(CpuSet),
}

/// A cpuset that the machine does not have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CpusetError {
    /// The CPUs cannot be cut like that.
    #[error("there is no part {index} of {of}: the machine has {cpus} CPUs, and parts are numbered from 0")]
    NoPart {
        /// The part asked for.
        index: usize,
        /// Into how many parts.
        of: usize,
        /// CPUs of the machine.
        cpus: usize,
    },
    /// Not a fraction.
    #[error("CpusetSpec::Overlap with frac {0}; it must be from 0 to 1")]
    Fraction(f64),
    /// No such LLC or node.
    #[error("there is no {kind} {index}: the machine has {count}, numbered from 0")]
    NoSuch {
        /// `LLC` or `NUMA node`.
        kind: &'static str,
        /// The number asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// No CPU at all.
    #[error("the cpuset {asked} holds no CPU")]
    Empty {
        /// What was asked for.
        asked: String,
    },
    /// CPUs that do not exist.
    #[error("CPUs {missing} are not there: the machine has {cpus}")]
    Missing {
        /// Those that do not exist.
        missing: CpuSet,
        /// Those that do.
        cpus: CpuSet,
    },
}

impl CpusetSpec {
    /// The CPUs on this machine.
    ///
    /// # Errors
    /// `CpusetError` when the machine has no such CPUs.
    pub fn resolve(&self, topo: &GuestTopology) -> Result<CpuSet, CpusetError> {
        let pick = |kind, sets: &[CpuSet], index: usize| {
            let missing = CpusetError::NoSuch { kind, index, count: sets.len() };
            sets.get(index).cloned().ok_or(missing)
        };
        let set = match self {
            Self::Llc(index) => pick("LLC", &topo.llcs, *index)?,
            Self::Numa(index) => pick("NUMA node", &topo.numa_nodes, *index)?,
            Self::Range { start, end } => (*start..(*end).min(CpuSet::LIMIT)).collect(),
            Self::Disjoint { index, of } => part(&topo.cpus, *index, *of, 0.0)?,
            Self::Overlap { index, of, frac } => part(&topo.cpus, *index, *of, *frac)?,
            Self::Exact(set) => set.clone(),
        };
        if set.is_empty() {
            return Err(CpusetError::Empty { asked: format!("{self:?}") });
        }
        let missing = set.difference(&topo.cpus);
        if missing.is_empty() {
            return Ok(set);
        }
        Err(CpusetError::Missing { missing, cpus: topo.cpus.clone() })
    }
}

/// Part `index` of `of` parts, with `more` of its size out of what follows, around the end.
fn part(cpus: &CpuSet, index: usize, of: usize, more: f64) -> Result<CpuSet, CpusetError> {
    if !(0.0..=1.0).contains(&more) {
        return Err(CpusetError::Fraction(more));
    }
    let count = cpus.len();
    if of == 0 || of > count || index >= of {
        return Err(CpusetError::NoPart { index, of, cpus: count });
    }
    let (begin, end) = (count * index / of, count * (index + 1) / of);
    let wanted = end - begin + ((end - begin) as f64 * more).ceil() as usize;
    Ok(cpus.iter().copied().cycle().skip(begin).take(wanted.min(count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topo() -> GuestTopology {
        let set = |text: &str| text.parse().expect("a list");
        GuestTopology {
            cpus: set("0-3"),
            cores: vec![set("0"), set("1"), set("2"), set("3")],
            llcs: vec![set("0-1"), set("2-3")],
            numa_nodes: vec![set("0-3")],
        }
    }

    fn resolved(spec: CpusetSpec) -> Result<String, CpusetError> {
        spec.resolve(&topo()).map(|set| set.to_string())
    }

    #[test]
    fn each_form_gives_its_cpus() {
        assert_eq!(resolved(CpusetSpec::Llc(1)).as_deref(), Ok("2-3"));
        assert_eq!(resolved(CpusetSpec::Numa(0)).as_deref(), Ok("0-3"));
        assert_eq!(resolved(CpusetSpec::Range { start: 1, end: 3 }).as_deref(), Ok("1-2"));
        assert_eq!(resolved(CpusetSpec::Exact([0, 3].into_iter().collect())).as_deref(), Ok("0,3"));
    }

    #[test]
    fn parts_are_disjoint_or_overlap_around_the_end() {
        let of = |index, of| resolved(CpusetSpec::Disjoint { index, of }).expect("CPUs");
        assert_eq!([of(0, 3), of(1, 3), of(2, 3)], ["0", "1", "2-3"]);
        let over = |index, frac| resolved(CpusetSpec::Overlap { index, of: 2, frac });
        assert_eq!(over(0, 0.5).as_deref(), Ok("0-2"));
        assert_eq!(over(1, 0.1).as_deref(), Ok("0,2-3"));
        assert_eq!(over(1, 1.0).as_deref(), Ok("0-3"));
        assert!(matches!(over(0, 1.5), Err(CpusetError::Fraction(_))));
        assert!(over(0, f64::NAN).is_err());
        for (index, of) in [(0, 0), (2, 2), (0, 5)] {
            let fault = CpusetError::NoPart { index, of, cpus: 4 };
            assert_eq!(resolved(CpusetSpec::Disjoint { index, of }), Err(fault));
        }
    }

    #[test]
    fn cpus_that_are_not_there_are_errors() {
        let no_llc = CpusetError::NoSuch { kind: "LLC", index: 2, count: 2 };
        assert_eq!(resolved(CpusetSpec::Llc(2)), Err(no_llc));
        assert!(matches!(resolved(CpusetSpec::Range { start: 2, end: 2 }), Err(CpusetError::Empty { .. })));
        let error = resolved(CpusetSpec::Range { start: 3, end: 6 }).expect_err("too far").to_string();
        assert_eq!(error, "CPUs 4-5 are not there: the machine has 0-3");
    }
}
