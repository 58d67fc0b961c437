//! What the tests that compare with bpftool share: running it in the guest, and the bytes of maps as it and as we have them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ktstr::prelude::*;
use ktstr_record::provision::{BpfToolchain, Provisioner};
use ktstr_replay::series::Samples;
use ktstr_replay::trace::record::{EventBody, MapContents, MapState, OutputSource, Sample};
use serde_json::Value as Json;

/// Where bpftool and its libraries are in the guest.
const GUEST_ROOT: &str = "/bpftool";
/// Begins a line of the body's output that carries a map as bpftool shows it: the map's id and JSON follow.
pub const MARK: &str = "bpftool-dump ";

/// bpftool's JSON, in the guest.
pub fn bpftool(args: &[&str]) -> Result<Json> {
    let words = BpfToolchain::bpftool_command(Path::new(GUEST_ROOT));
    let (program, leading) = words.split_first().context("a program")?;
    let output = Command::new(program).args(leading).arg("--json").args(args).output().context("bpftool")?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("the JSON of {args:?}"))
}

/// A body that loads the guest, and has each map dumped between the captures `before` and `after`, in lines that begin with
/// [`MARK`]. A map that bpftool refuses to dump is an error, or with `may_refuse` left out.
pub fn dump_between_captures(ctx: &Ctx, may_refuse: bool) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0"), ctx.cgroup_def("cg_1")])?;
    ctx.capture_snapshot("before")?;
    for map in bpftool(&["map", "list"])?.as_array().context("a list of maps")? {
        let id = map["id"].as_u64().context("a map's id")?;
        match bpftool(&["map", "dump", "id", &id.to_string()]) {
            Ok(dump) => println!("{MARK}{id} {dump}"),
            Err(_) if may_refuse => {}
            Err(error) => return Err(error),
        }
    }
    ctx.capture_snapshot("after")?;
    Ok(result)
}

/// The capture of that tag.
pub fn tagged<'s>(samples: &'s Samples, tag: &str) -> Result<&'s Sample> {
    samples.iter().find(|sample| sample.tag == tag).with_context(|| format!("no capture {tag}"))
}

/// The dumps that the body printed, by the map's id.
pub fn dumps(trace: &Trace) -> Result<BTreeMap<u32, Json>> {
    printed(trace, MARK)
}

/// The JSON in the lines of the body's output that begin with `mark`, by the id that stands before it.
pub fn printed(trace: &Trace, mark: &str) -> Result<BTreeMap<u32, Json>> {
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
pub type Bytes = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

pub fn ours(map: &MapState) -> Result<Bytes> {
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

pub fn theirs(dump: &Json, map: &MapState) -> Result<Bytes> {
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
pub fn bytes(json: &Json) -> Result<Vec<u8>> {
    let byte = |text: &Json| {
        let text = text.as_str().and_then(|text| text.strip_prefix("0x")).context("a byte in hexadecimal")?;
        Ok(u8::from_str_radix(text, 16)?)
    };
    json.as_array().context("bytes")?.iter().map(byte).collect()
}

/// bpftool and its libraries, from the toolchain's bundle on the host to their places in the guest.
pub fn bpftool_files() -> Result<Vec<IncludedFile>> {
    let toolchain = Provisioner::open()?.toolchain()?;
    let included = |file: PathBuf| IncludedFile {
        host: toolchain.root.join(&file),
        guest: format!("{GUEST_ROOT}/{}", file.display()),
    };
    Ok(toolchain.bpftool_files()?.into_iter().map(included).collect())
}
