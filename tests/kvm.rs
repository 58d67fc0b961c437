//! The KVM machine, chosen and refused; and, where its guests are executed by the CPU, the same tests on both machines.

use std::time::Duration;

use ktstr::prelude::*;
use ktstr_record::machine::KvmProbe;
use ktstr_replay::judge::CheckSource;
use ktstr_replay::run::Run;
use ktstr_tests::{TestRun, cargo_ktstr, fixture, ktstr, run_bounded};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });
declare_scheduler!(COSMOS, { name = "cosmos", crates = "scx_cosmos@1.1.7", topology = (1, 1, 2, 1) });
declare_scheduler!(BPFLAND, { name = "bpfland", crates = "scx_bpfland@1.1.4", topology = (1, 1, 2, 1) });

const LIMIT: Duration = Duration::from_secs(120);

fn two_cgroups(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[ktstr_test(
    ignore,
    scheduler = DEMO,
    duration_s = 2,
    num_snapshots = 4,
    not_starved,
    claims = ["nondecreasing(nr_dispatched)", "each(nr_dispatched >= 1)"]
)]
fn with_a_scheduler(ctx: &Ctx) -> Result<AssertResult> {
    two_cgroups(ctx)
}

#[ktstr_test(ignore, scheduler = DEMO, duration_s = 1, num_snapshots = 1, claims = ["each(nr_dispatched >= 1000000000)"])]
fn breaks_its_claim(ctx: &Ctx) -> Result<AssertResult> {
    two_cgroups(ctx)
}

#[ktstr_test(ignore, duration_s = 1, llcs = 2, cores = 3, threads = 1, numa_nodes = 2, num_snapshots = 1)]
fn on_two_nodes(ctx: &Ctx) -> Result<AssertResult> {
    two_cgroups(ctx)
}

#[ktstr_test(ignore, scheduler = COSMOS, duration_s = 2, memory_mib = 512, num_snapshots = 2,
             claims = ["always(alive)", "each(rq[1].nr_switches > 0)"])]
fn with_cosmos(ctx: &Ctx) -> Result<AssertResult> {
    two_cgroups(ctx)
}

#[ktstr_test(ignore, scheduler = BPFLAND, duration_s = 2, memory_mib = 512, num_snapshots = 2,
             claims = ["always(alive)", "eventually(stats(top).nr_cpus == 2)"])]
fn with_bpfland(ctx: &Ctx) -> Result<AssertResult> {
    two_cgroups(ctx)
}

/// Why KVM runs no kernels here; `None` where it does.
fn unfit() -> Option<String> {
    let probe = KvmProbe::fresh();
    (!probe.executes()).then(|| probe.to_string())
}

/// Which machine ran it, and each finding of the verdict without its numbers: what was judged, and how it came out.
fn judged(run: &TestRun) -> (String, Vec<String>) {
    let trace = run.trace();
    let kind = trace.manifest().expect("a manifest").machine.kind.clone();
    let loaded = Run::load(&trace);
    let verdict = loaded.judge(None, CheckSource::Recorded);
    let findings = verdict.findings.iter().map(|finding| format!("{:?} {}", finding.outcome, finding.what));
    (kind, findings.collect())
}

#[test]
fn the_same_test_is_judged_alike_on_both_machines() {
    if let Some(why) = unfit() {
        return println!("not run, as no kernel runs on this host's KVM: {why}");
    }
    for name in ["with_a_scheduler", "breaks_its_claim", "on_two_nodes", "with_cosmos", "with_bpfland"] {
        let [(one, kvm), (other, qemu)] = ["kvm", "qemu"].map(|machine| {
            let run = fixture(name).env("KTSTR_MACHINE", machine).run();
            run.assert_replays();
            judged(&run)
        });
        assert_eq!((one.as_str(), other.as_str()), ("kvm", "qemu"));
        assert!(!kvm.is_empty());
        assert_eq!(kvm, qemu, "{name}");
    }
}

#[test]
fn a_machine_that_cannot_be_is_refused_before_anything_is_started() {
    let unknown = fixture("with_a_scheduler").env("KTSTR_MACHINE", "xen").run();
    assert!(!unknown.status.success() && unknown.stderr.contains("one of qemu, kvm"), "{unknown}");
    assert!(unknown.results().is_empty(), "{unknown}");
    let option = run_bounded(cargo_ktstr().args(["test", "--machine", "xen", "none"]), LIMIT);
    assert!(!option.status.success() && option.stderr.contains("one of qemu, kvm"), "{option}");

    let says = run_bounded(ktstr().args(["machine", "--json"]).env("KTSTR_MACHINE", "qemu"), LIMIT);
    let json: serde_json::Value = serde_json::from_str(&says.stdout).expect("JSON");
    assert_eq!((&json["machine"], &json["why"]), (&"qemu".into(), &"qemu was asked for".into()), "{says}");
    // What a busy host says for a moment is not kept, and would not be what the test below is told.
    let ask = || run_bounded(ktstr().args(["machine", "--json"]).env_remove("KTSTR_MACHINE"), LIMIT);
    let mut chosen = ask();
    for _ in 0..50 {
        if !chosen.stdout.contains("within 50 ms") {
            break;
        }
        chosen = ask();
    }
    let json: serde_json::Value = serde_json::from_str(&chosen.stdout).expect("JSON");

    if json["machine"] == "kvm" {
        assert!(
            json["why"].as_str().is_some_and(|why| why.contains("executes guests on the CPU")),
            "{chosen}"
        );
        return;
    }
    let why = json["why"]
        .as_str()
        .and_then(|why| why.strip_prefix("KVM cannot be used, which leaves the emulator: "));
    // The first words: what was measured differs from probe to probe.
    let begin = why.and_then(|why| why.split(':').next()).unwrap_or_else(|| panic!("{chosen}")).to_owned();
    let forced = fixture("with_a_scheduler").env("KTSTR_MACHINE", "kvm").run();
    assert!(!forced.status.success(), "{forced}");
    for word in ["the KVM machine cannot be used", begin.as_str(), "KTSTR_MACHINE=qemu"] {
        assert!(forced.stderr.contains(word), "`{word}` is not said:\n{forced}");
    }
    assert!(forced.results().is_empty(), "{forced}");
}

/// What a probe showed is kept until the host boots again, and found out anew where that is asked for.
#[test]
fn a_probe_is_made_anew_only_where_that_is_asked_for() {
    let cache = tempfile::tempdir().expect("a folder");
    let ask = |words: &[&str]| {
        let mut machine = ktstr();
        machine.arg("machine").args(words).env_remove("KTSTR_MACHINE").env("XDG_CACHE_HOME", cache.path());
        run_bounded(&mut machine, LIMIT)
    };
    let file = cache.path().join("ktstr/machine/kvm-probe.json");
    let mut asked = ask(&[]);
    for _ in 0..50 {
        if file.exists() {
            break;
        }
        // What a busy host says is not kept.
        asked = ask(&[]);
    }
    let Ok(text) = std::fs::read_to_string(&file) else {
        return println!("not run, as KVM of this host gives no answer that stays: {asked}");
    };
    const MARK: &str = "what no probe has shown";
    let mut kept: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    kept["found"] = serde_json::json!({ "kvm": "emulates", "what": MARK, "module": null });
    std::fs::write(&file, kept.to_string()).expect("written");
    assert!(ask(&[]).stdout.contains(MARK), "what was kept is what is told");
    let anew = ask(&["--fresh"]);
    assert!(anew.stdout.contains("machine") && !anew.stdout.contains(MARK), "it was found out anew: {anew}");
}
