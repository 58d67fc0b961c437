//! One test on the KVM machine and on the emulated one, compared claim by claim.

use std::path::Path;

use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_replay::verdict::Outcome;

use super::recorded::{ended_well, ensure, job, trace};
use super::{Checked, said};
use crate::recorder::PageSelection;
use crate::spec::MachineSpec;

/// What any kernel keeps on a machine of two CPUs, and, last, what none does.
const CLAIMS: [&str; 4] = [
    "each(rq[0].nr_switches > 0)",
    "each(rq[1].nr_switches > 0)",
    "eventually(rq[1].clock_ns > 0)",
    "each(rq[0].nr_switches > 1000000000000)",
];

/// A claim, or another part of a verdict, and how it came out.
type Judged = (String, Outcome);

/// The same job on each of the two machines; what is judged must be the same, and come out alike.
pub(super) fn on_both(machines: [(&str, MachineSpec); 2]) -> Checked {
    let mut verdicts = Vec::new();
    for (kind, machine) in machines {
        let folder = tempfile::tempdir().map_err(|error| said(&error))?;
        let job = job(Path::new("/bin/sleep"), &["1".into()])?;
        let trace = trace(folder.path(), machine, job, PageSelection::Kernel, &CLAIMS)?;
        let manifest = trace.manifest().map_err(|error| said(&error))?;
        ensure(manifest.machine.kind == kind, || format!("{kind} was {}", manifest.machine.kind))?;
        ended_well(&trace).map_err(|why| format!("on {kind}, {why}"))?;
        let verdict = Run::load(&trace).judge(None, CheckSource::Recorded);
        verdicts.push((kind, verdict.findings.into_iter().map(|f| (f.what, f.outcome)).collect::<Vec<_>>()));
    }
    compared((verdicts[0].0, &verdicts[0].1), (verdicts[1].0, &verdicts[1].1))
}

/// Whether all claims but the last hold on the first machine, and all that is judged comes out alike on both.
fn compared(one: (&str, &[Judged]), other: (&str, &[Judged])) -> Checked {
    for (nth, claim) in CLAIMS.iter().enumerate() {
        let outcome = one.1.iter().find(|(what, _)| what == claim).map(|(_, outcome)| *outcome);
        let expected = if nth + 1 < CLAIMS.len() { Outcome::Pass } else { Outcome::Fail };
        ensure(outcome == Some(expected), || {
            format!("`{claim}` on {}: {outcome:?}, expected {expected:?}", one.0)
        })?;
    }
    ensure(one.1 == other.1, || format!("{} says {:?}, {} {:?}", one.0, one.1, other.0, other.1))?;
    Ok(format!("{} findings, each alike on {} and on {}", one.1.len(), one.0, other.0))
}

#[cfg(test)]
mod tests {
    use super::{CLAIMS, Judged, compared};
    use ktstr_replay::claim::Claim;
    use ktstr_replay::verdict::Outcome;

    /// Findings have them in that form, by which they are found.
    #[test]
    fn claims_are_written_as_they_are_judged() {
        for claim in CLAIMS {
            assert_eq!(claim.parse::<Claim>().unwrap().to_string(), claim);
        }
    }

    #[test]
    fn what_differs_or_is_not_judged_is_no_pass() {
        let outcomes = [Outcome::Pass, Outcome::Pass, Outcome::Pass, Outcome::Fail];
        let of = |outcomes: &[Outcome]| -> Vec<Judged> {
            CLAIMS.iter().map(|claim| (*claim).to_owned()).zip(outcomes.iter().copied()).collect()
        };
        let right = of(&outcomes);
        let with = |one: &[Judged], other: &[Judged]| compared(("kvm", one), ("qemu", other));
        assert_eq!(with(&right, &right).unwrap(), "4 findings, each alike on kvm and on qemu");
        let all_hold = of(&[Outcome::Pass; 4]);
        assert!(with(&all_hold, &all_hold).unwrap_err().contains("expected Fail"));
        assert!(with(&right[..3], &right[..3]).unwrap_err().contains("None, expected Fail"));
        let mut other = right.clone();
        other[1].1 = Outcome::Inconclusive;
        assert!(with(&right, &other).unwrap_err().contains("qemu"));
        assert!(with(&other, &right).unwrap_err().contains("on kvm: Some(Inconclusive)"));
        let more = [&right[..], &[("the run".to_owned(), Outcome::Pass)]].concat();
        assert!(with(&right, &more).is_err() && with(&more, &right).is_err());
    }
}
