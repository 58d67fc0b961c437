//! Schedulers of the package registry, named by their version: built once, loaded, recorded, and their maps as bpftool has them.

use ktstr::prelude::*;
use ktstr_replay::series::Samples;
use ktstr_replay::trace::record::{MapContents, MapState};

#[path = "bpftool/shared.rs"]
mod shared;

use shared::{bpftool_files, dump_between_captures, dumps, ours, tagged, theirs};

declare_scheduler!(COSMOS, { name = "cosmos", crates = "scx_cosmos@1.1.7", topology = (1, 1, 2, 1) });
declare_scheduler!(BPFLAND, { name = "bpfland", crates = "scx_bpfland@1.1.4", topology = (1, 1, 2, 1) });

#[ktstr_test(scheduler = COSMOS, duration_s = 8, memory_mib = 512, claims = ["always(alive)"],
             include_files = bpftool_files, check = bpftool_agrees)]
fn cosmos(ctx: &Ctx) -> Result<AssertResult> {
    // It does not dump arrays of perf events, for one.
    Ok(dump_between_captures(&ctx.part(0.1), true)?.merge(all_scenarios(ctx)?))
}

#[ktstr_test(scheduler = BPFLAND, duration_s = 8, memory_mib = 512, claims = ["always(alive)"],
             include_files = bpftool_files, check = bpftool_agrees)]
fn bpfland(ctx: &Ctx) -> Result<AssertResult> {
    Ok(dump_between_captures(&ctx.part(0.1), true)?.merge(all_scenarios(ctx)?))
}

/// Our own scenarios, one after the other: the scheduler has to live through all of them.
fn all_scenarios(ctx: &Ctx) -> Result<AssertResult> {
    let mut all = AssertResult::pass();
    for (name, scenario) in scenarios::ALL {
        all = all.merge(scenario(&ctx.part(0.06)).context(name)?);
    }
    Ok(all)
}

/// The scheduler runs while bpftool dumps, so the maps are compared that were the same before and after.
fn bpftool_agrees(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = Samples::load(trace);
    let (before, after) = (tagged(&samples, "before")?, tagged(&samples, "after")?);
    let dumps = dumps(trace)?;
    let (mut same, mut bytes) = (0, 0);
    for map in &before.maps {
        let unchanged = after.maps.iter().find(|other| other.id == map.id) == Some(map);
        let Some(dump) = dumps.get(&map.id).filter(|_| unchanged && is_read(map)) else { continue };
        let (ours, theirs) = (ours(map)?, theirs(dump, map)?);
        ensure!(ours.len() == theirs.len(), "bpftool has other keys in {}: {dump}", map.name);
        for ((key, ours), (other, theirs)) in ours.iter().zip(&theirs) {
            let agree = ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs));
            ensure!(key == other && agree, "bpftool has other bytes in {}: {dump}", map.name);
        }
        same += 1;
        bytes += ours.values().flatten().flatten().filter(|byte| **byte != 0).count() as u64;
    }
    v.check("maps that did not change, with the same bytes as bpftool's", same).at_least(3);
    v.check("bytes of them that are not zero", bytes).at_least(50).because("zeros would agree too easily");
    Ok(())
}

/// Whether a value is the same as bpftool has it. The kernel gives user space zeros for pointers to its objects.
fn is_same(ours: &[u8], theirs: &[u8]) -> bool {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let same =
        |(ours, theirs): (&[u8], &[u8])| ours == theirs || (word(theirs) == 0 && word(ours) >> 56 == 0xff);
    ours.len() == theirs.len() && ours.chunks(8).zip(theirs.chunks(8)).all(same)
}

/// Whether its entries are in the sample: those of arenas and ring buffers are not.
fn is_read(map: &MapState) -> bool {
    !matches!(map.contents, MapContents::Unread { .. })
}
