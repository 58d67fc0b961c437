//! bpftool, run inside the guest, agrees with what ktstr reads out of the guest's memory.

use ktstr::prelude::*;
use ktstr_replay::series::Samples;
use serde_json::Value as Json;

#[path = "bpftool/shared.rs"]
mod shared;
#[path = "bpftool/zoo.rs"]
mod zoo;

use shared::{bpftool_files, dump_between_captures, dumps, ours, tagged, theirs};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// scx_demo counts under load and then freezes what it counted; bpftool dumps each of its maps between two captures.
#[ktstr_test(
    scheduler = DEMO,
    duration_s = 2,
    checkpoint = "never",
    attached = false,
    extra_sched_args = ["--freeze-after-ms", "1500"],
    include_files = bpftool_files,
    check = bpftool_agrees
)]
fn every_map_agrees(ctx: &Ctx) -> Result<AssertResult> {
    dump_between_captures(ctx, false)
}

/// The same with the kernel where it was linked to be, and other page tables.
#[ktstr_test(
    scheduler = DEMO,
    duration_s = 2,
    kaslr = false,
    checkpoint = "never",
    attached = false,
    extra_sched_args = ["--freeze-after-ms", "1500"],
    include_files = bpftool_files,
    check = bpftool_agrees
)]
fn every_map_agrees_without_kaslr(ctx: &Ctx) -> Result<AssertResult> {
    dump_between_captures(ctx, false)
}

fn bpftool_agrees(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = Samples::load(trace);
    let (before, after) = (tagged(&samples, "before")?, tagged(&samples, "after")?);
    let dumps = dumps(trace)?;
    ensure!(before.maps.len() >= 10, "only {} maps were captured", before.maps.len());
    for map in &before.maps {
        let same = after.maps.iter().find(|other| other.id == map.id) == Some(map);
        ensure!(same, "{} changed while bpftool ran", map.name);
        let dump = dumps.get(&map.id).with_context(|| format!("bpftool did not dump {}", map.name))?;
        ensure!(ours(map)? == theirs(dump, map)?, "bpftool has other bytes in {}: {dump}", map.name);
    }
    v.check("maps with the same bytes as bpftool's", before.maps.len() as u64).eq(dumps.len() as u64);

    // What bpftool calls the variables of .bss, and makes of their bytes.
    let bss = before.maps.iter().find(|map| map.name == "scx_demo.bss").context("no .bss")?;
    let snapshot = samples.snapshot(before);
    let mut compared = 0;
    let variables = &dumps[&bss.id][0]["formatted"]["value"][".bss"];
    for (name, theirs) in
        variables.as_array().context("variables")?.iter().filter_map(Json::as_object).flatten()
    {
        if let Some(theirs) = theirs.as_u64() {
            v.check(name, snapshot.var(name)?.as_u64()?).eq(theirs);
            compared += 1;
        }
    }
    v.check("numbers of .bss that bpftool shows", compared).at_least(7);
    let dispatched = snapshot.var("nr_dispatched")?.as_u64()?;
    v.check("nr_dispatched", dispatched).at_least(20).because("zeros would agree too easily");
    Ok(())
}
