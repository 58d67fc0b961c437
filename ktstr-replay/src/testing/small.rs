//! A small trace with a record of every kind.

use std::path::Path;

use crate::memory::LeftOut;
use crate::trace::record::{
    BlobRole, CaptureKind, ClaimOrigin, ClaimRecord, Clock, Event, EventBody, Loss, LossKind, Manifest,
    MapContents, MapState, PAGE_BYTES, Sample, VcpuRegs,
};
use crate::trace::{CaptureBase, CapturedCheckpoint, PageBatch, TraceWriter, WriterOptions};
use crate::units::{Cpu, GuestNs, HostNs};

/// RAM of the small trace: 32 pages from 0 and 16 pages at 1 MiB.
pub const RAM: [std::ops::Range<u64>; 2] = [0..32 << 12, 1 << 20..(1 << 20) + (16 << 12)];

/// Its manifest.
pub fn manifest() -> Manifest {
    let mut manifest = Manifest { ktstr_version: "0.1.0".to_owned(), ..Manifest::default() };
    manifest.test.name = "demo::two_cgroups".to_owned();
    manifest.taints.push("emulated".to_owned());
    manifest
}

/// A page that zstd cannot make nothing of.
pub fn page(seed: u64) -> [u8; PAGE_BYTES] {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::array::from_fn(|i| {
        if i % 2 == 0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        if i % 64 < 8 { state as u8 } else { 0 }
    })
}

/// Its event number `i`.
pub fn event(i: u64) -> Event {
    Event {
        guest_ns: GuestNs(i * 1000),
        host_ns: HostNs(i * 2000),
        body: EventBody::Console(format!("line {i}\n").into_bytes()),
    }
}

/// Its sample number `index`.
pub fn sample(index: u32) -> Sample {
    Sample {
        index,
        tag: format!("periodic_{index:03}"),
        kind: CaptureKind::Periodic,
        guest_ns: GuestNs(5000),
        host_ns: HostNs(6000),
        phase: Some((0, "steady".to_owned())),
        missed: None,
        scx: None,
        maps: vec![MapState {
            id: 7,
            name: "demo.bss".to_owned(),
            map_type: 2,
            key_size: 4,
            value_size: 16,
            max_entries: 1,
            btf: None,
            key_type_id: 0,
            value_type_id: 3,
            contents: MapContents::Array { values: vec![9; 16] },
        }],
        cpus: Vec::new(),
        vcpus: vec![VcpuRegs { cpu: Cpu(0), rip: 0xffff_ffff_8100_0000, ..VcpuRegs::default() }],
        faults: Vec::new(),
        checkpoint: Some(index),
        pause_us: 700,
        machine_us: 500,
    }
}

/// A checkpoint of these pages.
pub fn checkpoint(base: CaptureBase, pages: &[(u64, [u8; PAGE_BYTES])]) -> CapturedCheckpoint {
    let mut batch = PageBatch::with_capacity(pages.len());
    for (gfn, page) in pages {
        batch.push(*gfn, page);
    }
    CapturedCheckpoint {
        sample: Some(0),
        guest_ns: GuestNs(5000),
        host_ns: HostNs(6000),
        ram: RAM.to_vec(),
        base,
        changed: vec![batch],
        zeroed: Vec::new(),
        left_out: Vec::new(),
    }
}

/// Write records of every kind, with commit marks between, and leave the trace unfinished.
pub fn write_small(path: &Path, options: WriterOptions) -> TraceWriter {
    let mut writer = TraceWriter::create_with(path, &manifest(), options).unwrap();
    writer.blob(BlobRole::Vmcoreinfo, b"OSRELEASE=7.3.4\n").unwrap();
    writer.clock(&Clock { guest_ns: GuestNs(10), host_ns: HostNs(20) }).unwrap();
    writer.claim(&ClaimRecord { text: "final(x >= 1)".to_owned(), origin: ClaimOrigin::Data }).unwrap();
    writer.commit().unwrap();
    writer.events(&(0..3).map(event).collect::<Vec<_>>()).unwrap();
    let mut first =
        checkpoint(CaptureBase::Zero, &[(1, page(1)), (2, page(2)), (256, page(3)), (5, page(1))]);
    first.left_out.push((8..10, LeftOut::Channel));
    writer.checkpoint(&first).unwrap();
    writer.sample(&sample(0)).unwrap();
    writer.commit().unwrap();
    let mut second = checkpoint(CaptureBase::Previous, &[(2, page(4)), (3, [0; PAGE_BYTES])]);
    second.zeroed.push(256..257);
    writer.checkpoint(&second).unwrap();
    writer.sample(&sample(1)).unwrap();
    writer
        .loss(&Loss { host_ns: HostNs(7000), kind: LossKind::Kmsg, count: 2, detail: "ring full".to_owned() })
        .unwrap();
    writer.events(&(3..5).map(event).collect::<Vec<_>>()).unwrap();
    writer.verdict(&serde_json::json!({"outcome": "pass"})).unwrap();
    writer.commit().unwrap();
    writer
}

/// Write the same without the last byte of its last commit mark, and so without that commit. Returns the bytes.
pub fn write_small_cut(path: &Path) -> Vec<u8> {
    drop(write_small(path, WriterOptions::default()));
    let mut bytes = std::fs::read(path).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(path, &bytes).unwrap();
    bytes
}
