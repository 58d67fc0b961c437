//! bpftool, run inside the guest, agrees with what ktstr reads out of the guest's memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr::prelude::*;
use ktstr_record::provision::{BpfToolchain, Provisioner};
use ktstr_replay::series::Samples;
use ktstr_replay::trace::record::{EventBody, MapContents, MapState, OutputSource, Sample};
use serde_json::Value as Json;

#[path = "bpftool/zoo.rs"]
mod zoo;

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

/// Where bpftool and its libraries are in the guest.
const GUEST_ROOT: &str = "/bpftool";
/// Begins a line of the body's output that carries a map as bpftool shows it: the map's id and JSON follow.
const MARK: &str = "bpftool-dump ";

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
    dump_between_captures(ctx)
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
    dump_between_captures(ctx)
}

fn dump_between_captures(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])?;
    ctx.capture_snapshot("before")?;
    let maps = bpftool(&["map", "list"])?;
    for map in maps.as_array().context("a list of maps")? {
        let id = map["id"].as_u64().context("a map's id")?;
        println!("{MARK}{id} {}", bpftool(&["map", "dump", "id", &id.to_string()])?);
    }
    ctx.capture_snapshot("after")?;
    Ok(result)
}

/// bpftool's JSON, in the guest.
fn bpftool(args: &[&str]) -> Result<Json> {
    let words = BpfToolchain::bpftool_command(Path::new(GUEST_ROOT));
    let (program, leading) = words.split_first().context("a program")?;
    let output = Command::new(program).args(leading).arg("--json").args(args).output().context("bpftool")?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("the JSON of {args:?}"))
}

fn bpftool_agrees(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let samples = Samples::load(trace);
    let tagged = |tag: &str| -> Result<&Sample> {
        samples.iter().find(|sample| sample.tag == tag).with_context(|| format!("no capture {tag}"))
    };
    let (before, after) = (tagged("before")?, tagged("after")?);
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

/// The dumps that the body printed, by the map's id.
fn dumps(trace: &Trace) -> Result<BTreeMap<u32, Json>> {
    printed(trace, MARK)
}

/// The JSON in the lines of the body's output that begin with `mark`, by the id that stands before it.
fn printed(trace: &Trace, mark: &str) -> Result<BTreeMap<u32, Json>> {
    let mut text = Vec::new();
    for event in trace.events() {
        if let EventBody::Output { source: OutputSource::Test, stderr: false, bytes } = event.body {
            text.extend(bytes);
        }
    }
    let text = String::from_utf8(text)?;
    let mut dumps = BTreeMap::new();
    for dump in text.lines().filter_map(|line| line.split_once(mark)) {
        let (id, json) = dump.1.split_once(' ').context("id and JSON")?;
        dumps.insert(id.parse()?, serde_json::from_str(json)?);
    }
    Ok(dumps)
}

/// The bytes of a map: for each key, for each CPU (one, for maps that are not per CPU), the value.
type Bytes = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

fn ours(map: &MapState) -> Result<Bytes> {
    let (key_size, value_size) = (map.key_size as usize, map.value_size as usize);
    let by_index = |values: &[u8], cpus: usize| -> Bytes {
        let entries = values.chunks(value_size * cpus).zip(0_u32..);
        entries.map(|(entry, index)| (index.to_le_bytes().into(), split(entry, value_size))).collect()
    };
    let by_key = |keys: &[u8], values: &[u8], cpus: usize| -> Bytes {
        let values = values.chunks(value_size * cpus).map(|entry| split(entry, value_size));
        keys.chunks(key_size).map(Vec::from).zip(values).collect()
    };
    Ok(match &map.contents {
        MapContents::Array { values } => by_index(values, 1),
        MapContents::PerCpuArray { cpus, values } => by_index(values, cpus.len()),
        MapContents::Hash { keys, values } => by_key(keys, values, 1),
        MapContents::PerCpuHash { cpus, keys, values } => by_key(keys, values, cpus.len()),
        MapContents::Unread { why } => bail!("{} was not read: {why}", map.name),
    })
}

fn split(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    bytes.chunks(size).map(Vec::from).collect()
}

fn theirs(dump: &Json, map: &MapState) -> Result<Bytes> {
    let mut found = Bytes::new();
    for entry in dump.as_array().context("entries")? {
        if entry["value"]["error"].is_string() {
            continue;
        }
        let values = match entry["values"].as_array() {
            Some(per_cpu) => per_cpu.iter().map(|cpu| bytes(&cpu["value"])).collect::<Result<_>>()?,
            None => vec![bytes(&entry["value"])?],
        };
        found.insert(bytes(&entry["key"]).with_context(|| format!("a key of {}", map.name))?, values);
    }
    Ok(found)
}

/// `["0x01", "0x02"]` as bytes.
fn bytes(json: &Json) -> Result<Vec<u8>> {
    let byte = |text: &Json| {
        let text = text.as_str().and_then(|text| text.strip_prefix("0x")).context("a byte in hexadecimal")?;
        Ok(u8::from_str_radix(text, 16)?)
    };
    json.as_array().context("bytes")?.iter().map(byte).collect()
}

/// bpftool and its libraries, from the toolchain's bundle on the host to their places in the guest.
fn bpftool_files() -> Result<Vec<IncludedFile>> {
    let toolchain = Provisioner::open()?.toolchain()?;
    let included = |file: PathBuf| IncludedFile {
        host: toolchain.root.join(&file),
        guest: format!("{GUEST_ROOT}/{}", file.display()),
    };
    Ok(toolchain.bpftool_files()?.into_iter().map(included).collect())
}
