//! Maps of every kind, and programs: those that bpftool dumps agree with it, the others with what `map_zoo` put in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ktstr::prelude::*;
use ktstr_replay::kernel::maps::{BpfObjects, MapDetail, MapObject, RingState};
use ktstr_replay::kernel::{BpfProgram, KernelProfile, KernelView};
use ktstr_replay::run::Checkpoints;
use ktstr_replay::run::Run;
use ktstr_replay::series::Samples;
use ktstr_replay::trace::record::{BlobRole, MapContents, Sample};
use ktstr_replay::value::Snapshot;
use ktstr_replay::view::{Shown, View};
use serde_json::Value as Json;

use super::shared::{MARK, bpftool, bpftool_files, bytes, dumps, ours, printed, theirs};

declare_scheduler!(ZOO, { name = "zoo", source = "map_zoo", topology = (1, 1, 2, 1) });

/// Begins a line with a queue's or a stack's id and what bpftool would pop from it.
const PEEK: &str = "bpftool-peek ";
/// Begins the line with bpftool's list of programs.
const PROGS: &str = "bpftool-progs ";

#[ktstr_test(
    scheduler = ZOO,
    duration_s = 1,
    checkpoint = "every",
    include_files = bpftool_files,
    claims = [
        "final(first_node->number == 11)",
        "final(first_node->next->number == 22)",
        "final(map(held).at(0).task->pid >= 1)",
        "final(((struct zoo_node *)first_as_void)->next->number == 22)",
        "final(((struct zoo_node *)first_as_number)->number == 11)",
        "final(((struct task_struct *)(u64)map(held).at(0).task)->pid >= 1)",
        "final(map(of_tasks).key(1).data->pid == 1)",
        "final(map(of_tasks).key(1).tptr->pid == 1)",
        "final(sum_of_pids >= 1)",
        "final(count(tree) == 3)",
        "final(tree[0].number == 5)",
        "final(tree[2].number == 7)",
        "final(count(list) == 2)",
        "final(list[1].number == 9)",
        "final(cpu_sum(map(stats).at(0)) == 100)",
        "final(cpu_sum(map(stats).at(ZOO_STAT_SECOND)) == 101)",
        "final(maps[stats].entries == 2)",
        "final(count(tasks where comm == \"swapper/0\") == 1)",
        "final(sum(runqueues.switches) >= 1)"
    ],
    check = every_kind_agrees
)]
fn maps_of_every_kind_agree(ctx: &Ctx) -> Result<AssertResult> {
    fs::write("/proc/sys/kernel/bpf_stats_enabled", "1").context("have runs counted")?;
    let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])?;
    ctx.capture_snapshot("before")?;
    for map in bpftool(&["map", "list"])?.as_array().context("a list of maps")? {
        let id = map["id"].as_u64().context("a map's id")?;
        match map["type"].as_str().context("a map's type")? {
            "queue" | "stack" => println!("{PEEK}{id} {}", bpftool(&["map", "peek", "id", &id.to_string()])?),
            // Their keys are descriptors, or they have none: bpftool has no way to dump them.
            "ringbuf" | "arena" | "bloom_filter" | "task_storage" | "cgrp_storage" => {}
            _ => println!("{MARK}{id} {}", bpftool(&["map", "dump", "id", &id.to_string()])?),
        }
    }
    println!("{PROGS}0 {}", bpftool(&["prog", "show"])?);
    ctx.capture_snapshot("after")?;
    Ok(result)
}

/// A trace for `ktstr-replay/benches/views.rs`: what a sample of so much costs.
#[ktstr_test(
    ignore,
    scheduler = ZOO,
    duration_s = 1,
    checkpoint = "every",
    extra_sched_args = ["--entries", "10000"],
    check = all_entries_are_read
)]
fn ten_thousand_entries(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])
}

fn all_entries_are_read(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = Samples::load(trace);
    let sample = samples.iter().last().context("a capture")?;
    v.check("maps", sample.maps.len() as u64).at_least(16);
    let many = sample.maps.iter().find(|map| map.name == "many").context("the map")?;
    let MapContents::Hash { keys, values } = &many.contents else { bail!("not read: {:?}", many.contents) };
    let entry = |(key, value): (&[u8], &[u8])| -> Result<bool> {
        Ok(u64::from_le_bytes(value.try_into()?) == 3 * u64::from(u32::from_le_bytes(key.try_into()?)))
    };
    let right = keys.chunks(4).zip(values.chunks(8)).map(entry).collect::<Result<Vec<_>>>()?;
    v.check("entries that are read right", right.iter().filter(|right| **right).count() as u64).eq(10_000);
    Ok(())
}

/// What a checkpoint holds of a capture.
fn objects(trace: &Trace, sample: &Sample) -> Result<BpfObjects> {
    let memory = trace.checkpoint_memory(sample.checkpoint.context("a checkpoint")?)?;
    let profile = KernelProfile::of_trace(trace)?;
    Ok(BpfObjects::read(&KernelView::new(&profile, &memory))?)
}

fn every_kind_agrees(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = Samples::load(trace);
    let tagged = |tag: &str| -> Result<&Sample> {
        samples.iter().find(|sample| sample.tag == tag).with_context(|| format!("no capture {tag}"))
    };
    let (sample, after) = (tagged("before")?, tagged("after")?);
    let before = objects(trace, sample)?;
    ensure!(before.faults().is_empty(), "{:?}", before.faults());
    let states: Vec<_> = before.maps().iter().map(|map| &map.state).collect();
    ensure!(
        states == sample.maps.iter().collect::<Vec<_>>(),
        "the checkpoint has other maps than the sample"
    );

    let dumps = dumps(trace)?;
    let mut agreed = BTreeSet::new();
    for map in before.maps() {
        // The first counts each task of bpftool's own runs; of what the others hold, the kernel tells user space nothing.
        let differs = ["map_zoo.bss", "held", ".data.TREE", ".data.LIST"].contains(&map.state.name.as_str());
        let Some(dump) = dumps.get(&map.state.id).filter(|_| !differs) else { continue };
        let mut ours = ours(&map.state)?;
        let theirs = theirs(dump, &map.state)?;
        // Ids of 0 stand for slots that bpftool finds empty.
        ours.retain(|key, values| theirs.contains_key(key) || values.iter().flatten().any(|byte| *byte != 0));
        ensure!(ours == theirs, "{} {}: {ours:02x?} is not {dump}", map.kind, map.state.name);
        agreed.insert(map.kind.as_str());
    }
    for kind in ["array", "array_of_maps", "hash_of_maps", "lru_percpu_hash", "prog_array", "struct_ops"] {
        v.check(format!("bpftool agrees on {kind}"), u64::from(agreed.contains(kind))).eq(1);
    }
    contents_are_known(&before, &samples.snapshot(sample), trace)?;
    pointers_are_followed(trace)?;
    programs_agree(&before, &objects(trace, after)?, trace, v)
}

/// What `map_zoo` put into the maps that bpftool does not dump.
fn contents_are_known(objects: &BpfObjects, snapshot: &Snapshot<'_>, trace: &Trace) -> Result<()> {
    let named = |name: &str| -> Result<&MapObject> {
        objects.maps().iter().find(|map| map.state.name == name).with_context(|| format!("no map {name}"))
    };
    let words = |list: &[u64]| list.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let peeks = printed(trace, PEEK)?;
    for (name, values) in [("queue", [10, 20, 30]), ("stack", [30, 20, 10])] {
        let map = named(name)?;
        let held = MapContents::Array { values: words(&values) };
        ensure!(map.state.contents == held, "{name}: {:?}", map.state.contents);
        let peek = bytes(&peeks[&map.state.id]["value"])?;
        ensure!(peek == words(&values[..1]), "bpftool would pop {peek:?} from the {name}");
    }
    let numbers = |name: &str| -> Result<BTreeMap<u64, u64>> {
        let view = objects.view(named(name)?);
        let one = |entry: ktstr_replay::value::MapEntry<'_>| -> Result<(u64, u64)> {
            Ok((entry.key()?.as_u64()?, entry.get("number")?.as_u64()?))
        };
        view.entries()?.into_iter().map(one).collect()
    };
    let of_tasks = numbers("of_tasks")?;
    ensure!(of_tasks.len() > 20, "only {} tasks have storage", of_tasks.len());
    ensure!(of_tasks.contains_key(&1), "init has no storage: {of_tasks:?}");
    let [config] = trace.blobs(BlobRole::KernelConfig)[..] else { bail!("not one configuration") };
    let config = String::from_utf8(trace.blob(&config)?.to_vec())?;
    let hz = snapshot.var("kernel_hz")?.as_u64()?;
    ensure!(config.lines().any(|line| line == format!("CONFIG_HZ={hz}")), "CONFIG_HZ is not {hz}");
    ensure!(of_tasks.len() as u64 <= snapshot.var("nr_told")?.as_u64()?, "more tasks than it was told of");
    let wrong: Vec<_> = of_tasks.iter().filter(|(pid, number)| **number != **pid * 3 + 1).collect();
    ensure!(wrong.is_empty(), "storage of another task: {wrong:?}");
    ensure!(numbers("of_cgroups")? == BTreeMap::from([(1, 77)]), "{:?}", numbers("of_cgroups")?);
    let ring = RingState {
        size_bytes: 4096,
        consumer_pos: 0,
        producer_pos: 16 + 16 + 24,
        ready: 2,
        busy: 0,
        discarded: 1,
    };
    ensure!(named("ring")?.detail == Some(MapDetail::Ring(ring)), "{:?}", named("ring")?.detail);
    match named("arena")?.detail {
        Some(MapDetail::Arena(arena)) if arena.mapped_pages == 3 && arena.max_pages == 100 => {}
        ref other => bail!("the arena: {other:?}"),
    }
    let bloom = named("bloom")?;
    let why = "there is no reader for BPF_MAP_TYPE_BLOOM_FILTER";
    ensure!(
        bloom.state.contents == MapContents::Unread { why: why.to_owned() },
        "{:?}",
        bloom.state.contents
    );
    // These have neither types nor a program that uses them, so nothing says whose they are.
    let unclaimed = objects.maps().iter().filter(|map| !map.of_scheduler).map(|map| map.state.name.as_str());
    ensure!(unclaimed.eq(["outer_array", "outer_hash", "calls"]), "{:?}", objects.maps());
    Ok(())
}

/// Into the arena, and to objects of the kernel that a map holds.
fn pointers_are_followed(trace: &Trace) -> Result<()> {
    let run = Run::load(trace);
    let checkpoints = Checkpoints::of(&run)?;
    let checkpoint = checkpoints.at(Some("before"))?;
    let shown = |wanted: &str, follow| View::Map { wanted: wanted.to_owned(), follow }.show(&checkpoint);
    let map = |wanted: &str| -> Result<Json> {
        Ok(shown(wanted, true)?.json["maps"][0]["contents"][0]["value"].clone())
    };
    let variables = map("map_zoo.bss")?;
    let first = &variables["first_node"]["to"];
    ensure!(first["number"] == 11 && first["next"] != "0x0", "{variables}");
    for name in ["first_as_void", "first_as_number"] {
        ensure!(variables[name]["to"]["arena"]["offset_bytes"] == 4096, "{name}: {variables}");
    }
    // That nothing tells what these point at is said where they are followed, and nowhere else.
    for (wanted, follow, is_said) in
        [("map_zoo.bss", true, true), ("map_zoo.bss", false, false), ("held", true, false)]
    {
        let shown = shown(wanted, follow)?;
        let said = shown
            .lines
            .iter()
            .filter(|line| line.contains("nor their instructions tell what is there"))
            .count();
        ensure!(said == usize::from(is_said), "{wanted}: {:#?}", shown.lines);
        ensure!(shown.json["maps"][0]["untyped"].is_string() == is_said, "{wanted}: {}", shown.json);
    }
    types_are_proven(&shown("of_tasks", true)?, &shown("of_tasks", false)?)?;
    let held = map("held")?;
    let numbers = |of: &Json| -> Vec<Json> {
        of["nodes"].as_array().into_iter().flatten().map(|node| node["number"].clone()).collect()
    };
    ensure!(numbers(&map(".data.TREE")?["tree"]) == [5, 6, 7], "{}", map(".data.TREE")?);
    ensure!(numbers(&map(".data.LIST")?["list"]) == [8, 9], "{}", map(".data.LIST")?);
    ensure!(held["cpus"]["to"] == "1", "{held}");
    let pid = &variables["held_pid"];
    ensure!(*pid != 0 && held["task"]["to"]["pid"] == *pid, "pid {pid}, {held}");
    Ok(())
}

/// A task's `void *` into the arena, and its number that is the task's address: with the types that `node_of` and `keep` have.
fn types_are_proven(followed: &Shown, plain: &Shown) -> Result<()> {
    let map = &followed.json["maps"][0];
    let of_init = map["contents"].as_array().context("entries")?.iter().find(|entry| entry["key"] == 1);
    let of_init = &of_init.context("init has no storage")?["value"];
    let node = &of_init["data"]["to"];
    ensure!(node["type"] == "struct zoo_task *" && node["value"]["pid"] == 1, "{of_init}");
    ensure!(of_init["tptr"]["to"]["task"]["pid"] == 1, "{of_init}");
    let proven = |name: &str, of: &str, by: &str| {
        let is_it = |one: &Json| one["name"] == name && one["type"] == of && one["by"] == by;
        let all = map["proven"].as_array().map_or(&[][..], Vec::as_slice);
        ensure!(all.len() == 2 && all.iter().any(is_it), "{name}: {:?}", map["proven"]);
        let said = format!("{name} is a {of}, by the programs' instructions: {by}");
        ensure!(followed.lines.iter().any(|line| line.trim() == said), "{said}: {:#?}", followed.lines);
        Ok(())
    };
    proven("data", "struct zoo_task *", "node_of() returns it")?;
    proven("tptr", "struct task_struct *", "it is written with what keep() has")?;
    ensure!(plain.json["maps"][0]["proven"].is_null(), "{}", plain.json);
    Ok(())
}

fn programs_agree(before: &BpfObjects, after: &BpfObjects, trace: &Trace, v: &mut Verdict) -> Result<()> {
    let list = printed(trace, PROGS)?.remove(&0).context("a list of programs")?;
    let list = list.as_array().context("programs")?;
    let ids =
        |programs: &[BpfProgram]| programs.iter().map(|program| u64::from(program.id)).collect::<Vec<_>>();
    let theirs: Vec<u64> = list.iter().filter_map(|program| program["id"].as_u64()).collect();
    ensure!(ids(before.programs().programs()) == theirs, "bpftool lists {theirs:?}");
    for program in before.programs().programs() {
        let theirs = list.iter().find(|one| one["id"] == program.id).context("a program")?;
        let name = theirs["name"].as_str().unwrap_or_default();
        ensure!(name.starts_with(&program.name), "{name} is not {}", program.name);
        let mut maps: Vec<u64> =
            theirs["map_ids"].as_array().into_iter().flatten().filter_map(Json::as_u64).collect();
        maps.sort_unstable();
        let ours = (program.kind.as_str(), program.tag.as_str(), u64::from(program.jited_bytes));
        let same = (&theirs["type"], &theirs["tag"], &theirs["bytes_jited"]);
        ensure!(
            (ours.0, ours.1) == (same.0.as_str().unwrap_or(""), same.1.as_str().unwrap_or("")),
            "{theirs}"
        );
        ensure!(*same.2 == ours.2, "{name}: {} bytes, not {}", ours.2, same.2);
        ensure!(
            program.map_ids.iter().copied().map(u64::from).eq(maps),
            "maps of {name}: {:?}",
            program.map_ids
        );
        // bpftool leaves zeros out.
        let runs = theirs["run_cnt"].as_u64().unwrap_or(0);
        let later = after.programs().program(program.id).context("a program that went")?;
        ensure!(
            (program.run_count..=later.run_count).contains(&runs),
            "{name} ran {runs} times: {program:?}, {later:?}"
        );
        let (symbol, offset) = before.programs().at(program.jited_at).context("code without a name")?;
        ensure!(offset == 0 && symbol.program == Some(program.id), "{symbol:?}");
        ensure!(symbol.name.starts_with(&format!("bpf_prog_{}", program.tag)), "{symbol:?}");
    }
    let runs = after.programs().programs().iter().map(|program| program.run_count).sum::<u64>();
    v.check("programs that agree with bpftool's list", list.len() as u64).at_least(3);
    v.check("runs while they were counted", runs).at_least(1).because("zeros would agree too easily");
    Ok(())
}
