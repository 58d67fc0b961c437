//! Read the kernel in a file of guest RAM (guest-physical address = file offset) and print what a sample would hold.
//!
//! `cargo run -p ktstr-replay --example read_kernel -- RAM [--times N]`
//!
//! One JSON object on standard output: sched_ext's state, runqueues, faults, and for each map its entries as bytes and,
//! where the map has types, as values. With `--times N` the sample is read N times and the timings go to standard error.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ktstr_replay::btf::{TypeId, Types};
use ktstr_replay::kernel::{Caps, KernelProfile, KernelView, SampleReader, SampleState};
use ktstr_replay::memory::{Memory, MemoryError};
use ktstr_replay::trace::record::{BlobId, MapContents, MapState};
use ktstr_replay::units::GuestPhys;
use ktstr_replay::value::Value;
use serde_json::{Value as Json, json};

const PAGE: usize = 4096;

struct Ram(Vec<u8>);

impl Memory for Ram {
    fn read(&self, at: GuestPhys, out: &mut [u8]) -> Result<(), MemoryError> {
        let start = usize::try_from(at.0).unwrap_or(usize::MAX);
        match start.checked_add(out.len()).and_then(|end| self.0.get(start..end)) {
            Some(found) => out.copy_from_slice(found),
            None => return Err(MemoryError::OutOfRange { at, len: out.len() }),
        }
        Ok(())
    }

    fn populated(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (page, bytes) in self.0.chunks(PAGE).enumerate() {
            let (start, end) = ((page * PAGE) as u64, (page * PAGE + bytes.len()) as u64);
            if bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => ranges.push(start..end),
            }
        }
        ranges
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: read_kernel RAM [--times N]")?;
    let times: usize = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--times"), Some(count)) => count.parse()?,
        _ => 1,
    };
    let ram = Ram(std::fs::read(&path)?);
    let begun = Instant::now();
    let profile = KernelProfile::from_memory(&ram)?;
    eprintln!("{profile:?} in {:?}", begun.elapsed());

    let mut reader = SampleReader::new(Caps::default());
    let state = reader.read(&KernelView::new(&profile, &ram));
    if times > 1 {
        let mut taken: Vec<Duration> = (0..times).map(|_| once(&mut reader, &profile, &ram)).collect();
        taken.sort();
        eprintln!("a sample: p50 {:?}, p99 {:?}", taken[times / 2], taken[times * 99 / 100]);
    }
    println!("{}", serde_json::to_string_pretty(&show(&state)?)?);
    Ok(())
}

fn once(reader: &mut SampleReader, profile: &KernelProfile, ram: &Ram) -> Duration {
    let begun = Instant::now();
    let state = reader.read(&KernelView::new(profile, ram));
    let taken = begun.elapsed();
    std::hint::black_box(state);
    taken
}

fn show(state: &SampleState) -> Result<Json, Box<dyn std::error::Error>> {
    let mut types: HashMap<BlobId, Arc<Types>> = HashMap::new();
    for blob in &state.blobs {
        types.insert(blob.id, Arc::new(Types::parse(blob.bytes.clone())?));
    }
    let maps: Vec<Json> = state
        .maps
        .iter()
        .map(|map| {
            let types = map.btf.and_then(|id| types.get(&id));
            json!({
                "id": map.id, "name": map.name, "type": map.map_type, "bytes_key": map.key_size,
                "bytes_value": map.value_size, "max_entries": map.max_entries,
                "entries": entries(map, types.map(AsRef::as_ref)),
            })
        })
        .collect();
    let cpus: Vec<String> = state.cpus.iter().map(|cpu| format!("{cpu:?}")).collect();
    Ok(json!({ "scx": format!("{:?}", state.scx), "cpus": cpus, "faults": state.faults, "maps": maps }))
}

fn entries(map: &MapState, types: Option<&Types>) -> Json {
    let value = |id: u32, bytes: &[u8]| match types {
        Some(types) if id != 0 => match Value::new(types, TypeId(id), bytes) {
            Ok(value) => value.to_json(),
            Err(error) => json!({ "error": error.to_string() }),
        },
        _ => json!(bytes),
    };
    let (key_size, value_size) = (map.key_size.max(1) as usize, map.value_size.max(1) as usize);
    let pairs = |keys: &[u8], values: &[u8], each: usize| -> Vec<Json> {
        keys.chunks(key_size)
            .zip(values.chunks(each))
            .map(|(key, all)| {
                let values: Vec<Json> =
                    all.chunks(value_size).map(|one| value(map.value_type_id, one)).collect();
                json!({ "key": value(map.key_type_id, key), "values": values })
            })
            .collect()
    };
    match &map.contents {
        MapContents::Array { values } => {
            values.chunks(value_size).map(|one| value(map.value_type_id, one)).collect::<Vec<_>>().into()
        }
        MapContents::PerCpuArray { cpus, values } => values
            .chunks(value_size * cpus.len().max(1))
            .map(|all| all.chunks(value_size).map(|one| value(map.value_type_id, one)).collect::<Vec<_>>())
            .collect::<Vec<_>>()
            .into(),
        MapContents::Hash { keys, values } => pairs(keys, values, value_size).into(),
        MapContents::PerCpuHash { cpus, keys, values } => {
            pairs(keys, values, value_size * cpus.len().max(1)).into()
        }
        MapContents::Unread { why } => json!({ "unread": why }),
    }
}
