//! Schedulers of the package registry, named by their version: built once, loaded, recorded, their maps as bpftool has them, and
//! their statistics as they serve them.

use ktstr::prelude::*;
use ktstr_replay::run::Run;
use ktstr_replay::series::Samples;
use ktstr_replay::trace::record::{Event, EventBody, MapContents, MapState, Sample, StatsAnswer};
use ktstr_replay::units::GuestNs;
use ktstr_replay::verdict::{Finding, Origin};
use ktstr_replay::view::show_stats;

#[path = "bpftool/shared.rs"]
mod shared;

use shared::{bpftool_files, dump_between_captures, dumps, ours, tagged, theirs};

declare_scheduler!(COSMOS, { name = "cosmos", crates = "scx_cosmos@1.1.7", topology = (1, 1, 2, 1) });
declare_scheduler!(BPFLAND, { name = "bpfland", crates = "scx_bpfland@1.1.4", topology = (1, 1, 2, 1) });

declare_scheduler!(P2DQ, { name = "p2dq", crates = "scx_p2dq@1.1.4", topology = (1, 1, 4, 1) });

/// Its tasks' state lies in an arena, behind a `void *` and a number. It takes minutes to be built: one asks for it.
#[ktstr_test(ignore, scheduler = P2DQ, duration_s = 6, memory_mib = 1024, num_snapshots = 8, checkpoint = "every",
             claims = ["always(alive)", "final(map(scx_task_map).key(1).data->pid == 1)",
                       "final(map(scx_task_map).key(1).tptr->pid == 1)"])]
fn p2dq(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])
}

#[ktstr_test(scheduler = COSMOS, duration_s = 8, memory_mib = 512,
             claims = ["always(alive)", "eventually(stats(top).nr_event_dispatches >= 0)"],
             include_files = bpftool_files, check = is_read)]
fn cosmos(ctx: &Ctx) -> Result<AssertResult> {
    // It does not dump arrays of perf events, for one.
    Ok(dump_between_captures(&ctx.part(0.1), true)?.merge(all_scenarios(ctx)?))
}

#[ktstr_test(scheduler = BPFLAND, duration_s = 8, memory_mib = 512, num_snapshots = 5,
             claims = ["always(alive)", "eventually(stats(top).nr_cpus == 2)"],
             include_files = bpftool_files, check = is_read_with_counters)]
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

/// Its maps and its statistics.
fn is_read(trace: &Trace, v: &mut Verdict) -> Result<()> {
    bpftool_agrees(trace, v)?;
    stats_are_told(trace, v)
}

fn is_read_with_counters(trace: &Trace, v: &mut Verdict) -> Result<()> {
    is_read(trace, v)?;
    stats_agree(trace, v)
}

/// The scheduler runs while bpftool dumps, so the maps are compared that were the same before and after.
fn bpftool_agrees(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = Samples::load(trace);
    let (before, after) = (tagged(&samples, "before")?, tagged(&samples, "after")?);
    let dumps = dumps(trace)?;
    let (mut same, mut bytes) = (0, 0);
    for map in &before.maps {
        let unchanged = after.maps.iter().find(|other| other.id == map.id) == Some(map);
        let Some(dump) = dumps.get(&map.id).filter(|_| unchanged && has_entries(map)) else { continue };
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
fn has_entries(map: &MapState) -> bool {
    !matches!(map.contents, MapContents::Unread { .. })
}

/// The scheduler was asked after each capture, from the first one on at which it listened, and what did not come has its reason.
fn stats_are_told(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let answers = answers(trace);
    let told = |sample: &Sample| answers.iter().filter(|(_, answer)| answer.sample == sample.index).count();
    let samples = Samples::load(trace);
    let taken = samples.iter().filter(|sample| sample.missed.is_none());
    let asked: Vec<_> = taken.skip_while(|sample| told(sample) == 0).collect();
    ensure!(asked.len() > 1, "it was asked after {} captures", asked.len());
    for sample in asked {
        let told = told(sample);
        v.check(format!("answers after the capture {}", sample.tag), told).eq(1);
    }
    let shown = show_stats(&Run::load(trace), None)?;
    let rows = shown.lines.iter().filter(|line| line.starts_with("nr_")).count();
    v.check("members of the statistics that the view shows", rows).at_least(4);
    Ok(())
}

/// What bpfland tells of its counters since the capture before is what its variables did meanwhile.
fn stats_agree(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let (captures, periodic, answers) = (trace.captures(), trace.periodic(), answers(trace));
    let samples: Vec<_> = periodic.snapshots().collect();
    ensure!(samples.len() == 5, "{} periodic captures", samples.len());
    // When the answer after a capture came. One that came late, after the next capture, says nothing of the time between the two.
    let in_time = |i: usize| {
        let (this, next) = (samples[i].sample(), samples[i + 1].sample());
        let is_taken = this.missed.is_none() && next.missed.is_none();
        let answer = answers.iter().find(|(_, answer)| answer.sample == this.index && answer.fault.is_none());
        answer.map(|(at, _)| *at).filter(|at| is_taken && *at <= next.guest_ns)
    };
    let mut judged = 0;
    for i in 0..2 {
        let (Some(begin), Some(_), Some(end)) = (in_time(i), in_time(i + 1), in_time(i + 2)) else {
            continue;
        };
        // With those after captures of the body. One that did not come ended the connection, and with it what the next is about.
        let of_stretch = answers.iter().filter(|(at, _)| *at > begin && *at <= end).map(|(_, answer)| answer);
        let of_stretch: Vec<&StatsAnswer> = of_stretch.collect();
        if of_stretch.iter().any(|answer| answer.fault.is_some()) {
            continue;
        }
        let is_of_stretch = |index: u32| of_stretch.iter().any(|answer| answer.sample == index);
        for name in ["nr_kthread_dispatches", "nr_direct_dispatches", "nr_shared_dispatches"] {
            let counted = samples[i..i + 4].iter().map(|sample| Ok(sample.var(name)?.as_u64()?));
            let counted: Vec<u64> = counted.collect::<Result<_>>()?;
            let of = captures.snapshots().filter(|snapshot| is_of_stretch(snapshot.sample().index));
            let told = of.map(|snapshot| Ok(snapshot.stats(&format!("top.{name}"))?.as_u64()?));
            let told: u64 = told.collect::<Result<Vec<u64>>>()?.iter().sum();
            // From the first answer, which came before the second capture, to the last, which came after the third.
            let (least, most) = (counted[2] - counted[1], counted[3] - counted[0]);
            v.check(format!("{name} of the answers from capture {i} on"), told).between(least, most);
        }
        judged += 1;
    }
    if judged == 0 {
        let found = "no three answers in a row came before the next capture: the host is too busy";
        v.add(Finding::new(Origin::Check("stats".to_owned()), "stats", Outcome::Inconclusive, found));
    }
    Ok(())
}

/// The answers of a trace, with their times.
fn answers(trace: &Trace) -> Vec<(GuestNs, StatsAnswer)> {
    let answer = |event: Event| match event.body {
        EventBody::Stats(answer) => Some((event.guest_ns, *answer)),
        _ => None,
    };
    trace.events().into_iter().filter_map(answer).collect()
}
