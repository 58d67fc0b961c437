//! What a test says of itself when it is asked, and not run. It crosses from a test binary to `cargo ktstr`.

use ktstr_replay::claim::Claim;
use serde::{Deserialize, Serialize};

use crate::gauntlet::PRESETS;
use crate::probe::ProbeSpec;
use crate::test_def::TestDef;
use crate::watch::WatchSpec;

/// A test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestDescription {
    /// Package that it is in.
    pub package: String,
    /// The target that it is in, as the crate is called; once it was asked by cargo's words, as cargo calls it.
    pub target: String,
    /// What cargo calls such a target: `test`, `lib`, `bin`. A test cannot know it: it is filled in by who asks.
    #[serde(default)]
    pub kind: String,
    /// Its name as libtest knows it, `module::function`.
    pub name: String,
    /// The scheduler under test.
    pub scheduler: String,
    /// The machine's CPUs, as `1n2l4c1t`.
    pub topology: String,
    /// How many these are; 0 of a test that runs on the host, which has no machine.
    pub cpus: u32,
    /// Its machine is in performance mode, in which no other machine of tests runs beside it.
    pub performance: bool,
    /// Guest RAM, in MiB.
    pub memory_mib: u32,
    /// Workload window, in s.
    pub duration_s: u64,
    /// The limits that it is judged by, for people.
    pub limits: String,
    /// Its claims, watches and probes that cannot be read: what is wrong, the text and a caret under the fault, in lines. A run of the
    /// test ends with them before it boots.
    pub unreadable: Vec<String>,
    /// It is not run unless that is asked for.
    pub ignored: bool,
    /// It on each machine of the gauntlet, in the order of the table; none of a test that is ignored.
    pub variants: Vec<VariantDescription>,
}

/// A test on a machine of the gauntlet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantDescription {
    /// Name of the machine.
    pub preset: String,
    /// Name of the variant as libtest knows it.
    pub name: String,
    /// Guest RAM, in MiB.
    pub memory_mib: u32,
    /// Why the test is not for that machine, if it is not.
    pub excluded: Option<String>,
}

impl TestDescription {
    /// Of a test.
    pub fn of(def: &TestDef) -> Self {
        let bounds = def.bounds();
        let variants = PRESETS.iter().map(|preset| VariantDescription {
            preset: preset.name.to_owned(),
            name: preset.variant_of(def.libtest_name()),
            memory_mib: preset.memory_mib(def.memory_mib),
            excluded: bounds.excludes(preset.topology),
        });
        Self {
            package: def.package.to_owned(),
            target: def.target().to_owned(),
            kind: String::new(),
            name: def.libtest_name().to_owned(),
            scheduler: match def.scheduler {
                None if def.host_only => "none, on the host",
                scheduler => scheduler.map_or("eevdf", |scheduler| scheduler.name),
            }
            .to_owned(),
            topology: def.topology.to_string(),
            cpus: if def.host_only { 0 } else { def.topology.cpus() },
            performance: def.performance,
            memory_mib: def.memory_mib,
            duration_s: def.duration_s,
            limits: def.limits().to_string(),
            unreadable: unreadable(def),
            ignored: def.ignored,
            variants: if def.ignored || def.host_only { Vec::new() } else { variants.collect() },
        }
    }
}

/// What of a test's texts cannot be read.
fn unreadable(def: &TestDef) -> Vec<String> {
    let claims = def.claims.iter().filter_map(|text| text.parse::<Claim>().err());
    let watches = def.watch.iter().filter_map(|text| WatchSpec::on(*text).order().err());
    let probes = def.probe.iter().filter_map(|text| ProbeSpec::on(*text).order().err());
    claims.chain(watches).chain(probes).map(|error| error.render()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauntlet::Constraints;
    use crate::host::tests::TEST;

    #[test]
    fn a_description_has_every_machine_and_why_it_is_none_of_the_tests() {
        let def = TestDef { path: "demo::inner::two", constraints: Constraints::NONE.min_llcs(2), ..TEST };
        let said = TestDescription::of(&def);
        assert_eq!((said.target.as_str(), said.name.as_str()), ("demo", "inner::two"));
        assert_eq!(said.cpus, TEST.topology.cpus());
        assert_eq!(TestDescription::of(&TestDef { host_only: true, ..TEST }).cpus, 0);
        assert!(!said.performance);
        assert!(TestDescription::of(&TestDef { performance: true, ..TEST }).performance);
        assert_eq!(said.variants.len(), PRESETS.len());
        let first = &said.variants[0];
        assert_eq!(first.name, "inner::gauntlet_two::llcs1_cpus4");
        assert_eq!(first.excluded.as_deref(), Some("1 LLC, `min_llcs` is 2"));
        assert_eq!(said.variants[2].excluded, None);
        assert!(TestDescription::of(&TestDef { ignored: true, ..TEST }).variants.is_empty());
        assert!(said.unreadable.is_empty(), "{:?}", said.unreadable);
    }

    #[test]
    fn each_text_that_cannot_be_read_has_a_caret_under_its_fault() {
        let def = TestDef {
            claims: &["each(x >= 1)", "each(y => 1)"],
            watch: &["scx_root->"],
            probe: &["do_exit("],
            ..TEST
        };
        let said = TestDescription::of(&def).unreadable;
        assert_eq!(said.len(), 3, "{said:?}");
        for (said, text) in said.iter().zip(["each(y => 1)", "scx_root->", "do_exit("]) {
            assert!(said.contains(&format!("| {text}\n")) && said.contains('^'), "{said}");
        }
    }
}
