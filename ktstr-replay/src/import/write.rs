//! A trace of one checkpoint, out of a core.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::core::{Core, CoreError};
use crate::kernel::{
    Caps, Jiffies, KernelError, KernelProfile, KernelView, PageClasses, PageClassifier, SampleReader,
    Vmcoreinfo,
};
use crate::memory::{LeftOut, Memory};
use crate::trace::record::manifest::{ImportInfo, KernelInfo, MachineInfo};
use crate::trace::record::{CaptureKind, Event, EventBody, Manifest, PAGE_BYTES, PageId, Sample, VcpuRegs};
use crate::trace::{CaptureBase, CapturedCheckpoint, TraceWriter, WriteError, part_name, place};
use crate::units::{Cpu, GuestNs, GuestPhys, HostNs};

/// Most pages that a trace of a core keeps: 4 GiB.
const MAX_PAGES: usize = 1 << 20;
/// What the capture of a core is called.
const TAG: &str = "import";

/// Why no trace was made of a core.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is such a file.
    #[error("{} exists already; name a file that does not", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The core cannot be read.
    #[error("{} cannot be imported", path.display())]
    Core {
        /// The core.
        path: PathBuf,
        /// Why.
        source: CoreError,
    },
    /// Its memory has no kernel that can be read.
    #[error(
        "no kernel can be read in {}: it has to be a Linux kernel for x86-64 with BTF, and the core must have its data",
        path.display()
    )]
    Kernel {
        /// The core.
        path: PathBuf,
        /// Why, of the last that was tried.
        source: KernelError,
    },
    /// There is more of the kernel than a trace keeps.
    #[error(
        "the kernel has more than {} MiB of data of its own, which is more than a trace keeps",
        (MAX_PAGES * PAGE_BYTES) >> 20
    )]
    TooLarge,
    /// The trace cannot be written.
    #[error("{} cannot be written; nothing is left of it", path.display())]
    Write {
        /// The trace.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// The trace cannot be given its name.
    #[error("{} cannot be placed; nothing is left of it", path.display())]
    Place {
        /// The trace.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a trace has of a core.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// What sort of file the core is.
    pub format: String,
    /// `uname -r`.
    pub release: String,
    /// Bytes of memory that the core has.
    pub memory_bytes: u64,
    /// Bytes of memory that the trace has.
    pub kept_bytes: u64,
    /// Bytes of memory that the core has, and that the trace does not, as no decoder reads them.
    pub left_out_bytes: u64,
    /// Bytes of memory that the core does not have.
    pub absent_bytes: u64,
    /// CPUs whose registers it has.
    pub vcpus: usize,
    /// What such a core does not tell.
    pub not_told: Vec<String>,
}

/// Make a trace of one checkpoint of the core at `path`: `to`, which must not exist, and appears whole or not at all. It keeps the
/// kernel's data, as checkpoints do.
///
/// # Errors
/// [`ImportError`].
pub fn import_core(path: &Path, to: &Path) -> Result<Imported, ImportError> {
    if to.symlink_metadata().is_ok() {
        return Err(ImportError::Exists { path: to.to_owned() });
    }
    let core = Core::open(path).map_err(|source| ImportError::Core { path: path.to_owned(), source })?;
    let profile = profile(&core).map_err(|source| ImportError::Kernel { path: path.to_owned(), source })?;
    let part = part_name(to);
    let placed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => ImportError::Exists { path: to.to_owned() },
        _ => ImportError::Place { path: to.to_owned(), source },
    };
    let imported = write(&core, &Arc::new(profile), to, &part)
        .and_then(|imported| place(&part, to).map(|()| imported).map_err(placed));
    // Placed, it has two names; else nobody asked for it.
    let _ = fs::remove_file(&part);
    imported
}

/// The kernel, by what the core says of it, or else by what its memory does.
fn profile(core: &Core) -> Result<KernelProfile, KernelError> {
    let stated = core.vmcoreinfo().and_then(|text| Vmcoreinfo::parse(text).ok());
    match stated.map(|info| KernelProfile::from_vmcoreinfo(core, info)) {
        Some(Ok(profile)) => Ok(profile),
        Some(Err(error)) => KernelProfile::from_memory(core).map_err(|_| error),
        None => KernelProfile::from_memory(core),
    }
}

fn write(core: &Core, profile: &Arc<KernelProfile>, to: &Path, part: &Path) -> Result<Imported, ImportError> {
    let view = KernelView::new(profile, core);
    let jiffies = Jiffies::read(&view);
    let guest_ns = GuestNs(jiffies.as_ref().map_or(0, Jiffies::uptime_ns));
    let mut sample = Sample::new(0, TAG, CaptureKind::Import, guest_ns, HostNs(0));
    sample.vcpus = core.vcpus().to_vec();
    let mut not_told = not_told(core);
    if !core.names_cpus() {
        not_told.extend(number(&mut sample.vcpus, view.cpus().map(|cpus| cpus.online().to_vec())));
    }
    let state = SampleReader::new(Caps::default()).read(&view);
    (sample.scx, sample.maps, sample.cpus, sample.faults) = (state.scx, state.maps, state.cpus, state.faults);
    if let Err(why) = &jiffies {
        sample.faults.push(format!("for how long the kernel had run, so that its time counts as 0: {why}"));
    }
    let classes = PageClassifier::new(Arc::clone(profile)).and_then(|all| all.classify(core, &core.ram()));
    let classes = classes.unwrap_or_else(|why| {
        sample.faults.push(format!("all pages are kept, as they cannot be told apart: {why}"));
        PageClasses::default()
    });
    let mut imported = Imported {
        format: core.format(),
        release: profile.release().to_owned(),
        vcpus: sample.vcpus.len(),
        not_told,
        ..Imported::default()
    };
    sample.faults.extend(imported.not_told.iter().cloned());

    let io = |source| ImportError::Write { path: to.to_owned(), source };
    let mut writer = TraceWriter::create(part, &manifest(core, profile)).map_err(io)?;
    for blob in profile.to_blobs().iter().chain(&state.blobs) {
        writer.blob(blob.role, &blob.bytes).map_err(io)?;
    }
    sample.checkpoint = Some(pages(core, &classes, &mut writer, guest_ns, &mut imported, io)?);
    let owner = |one| Event { guest_ns, host_ns: HostNs(0), body: EventBody::SchedulerMaps(Box::new(one)) };
    let owners: Vec<Event> = state.schedulers.into_iter().map(owner).collect();
    if !owners.is_empty() {
        writer.events(&owners).map_err(io)?;
    }
    writer.sample(&sample).map_err(io)?;
    writer.commit().map_err(io)?;
    writer.finish().map_err(io)?;
    Ok(imported)
}

fn manifest(core: &Core, profile: &KernelProfile) -> Manifest {
    let ram: u64 = core.ram().iter().map(|range| range.end - range.start).sum();
    Manifest {
        ktstr_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: KernelInfo { release: profile.release().to_owned(), ..KernelInfo::default() },
        machine: MachineInfo {
            kind: MachineInfo::CORE.to_owned(),
            cpus: u32::try_from(core.vcpus().len()).unwrap_or(u32::MAX),
            memory_mib: u32::try_from(ram >> 20).unwrap_or(u32::MAX),
            ..MachineInfo::default()
        },
        imported: Some(ImportInfo { format: core.format() }),
        ..Manifest::default()
    }
}

/// Write the pages that a trace keeps, as checkpoints keep them, each as it is read. Returns the checkpoint's index.
fn pages(
    core: &Core,
    classes: &PageClasses,
    writer: &mut TraceWriter,
    guest_ns: GuestNs,
    imported: &mut Imported,
    io: impl Fn(WriteError) -> ImportError,
) -> Result<u32, ImportError> {
    let mut writer = writer.begin_checkpoint(CaptureBase::Zero).map_err(&io)?;
    let mut left_out: Vec<(Range<u64>, LeftOut)> =
        core.absent().into_iter().map(|gfns| (gfns, LeftOut::NotInCore)).collect();
    imported.absent_bytes =
        left_out.iter().map(|(gfns, _)| (gfns.end - gfns.start) * PAGE_BYTES as u64).sum();
    let mut leave_out = |gfn: u64, why: LeftOut| match left_out.last_mut() {
        Some((last, reason)) if last.end == gfn && *reason == why => last.end += 1,
        _ => left_out.push((gfn..gfn + 1, why)),
    };
    let mut kept = 0;
    let mut page = [0; PAGE_BYTES];
    for range in core.populated() {
        imported.memory_bytes += range.end - range.start;
        for gfn in range.start / PAGE_BYTES as u64..range.end / PAGE_BYTES as u64 {
            if let Some(why) = classes.get(gfn) {
                imported.left_out_bytes += PAGE_BYTES as u64;
                leave_out(gfn, why);
                continue;
            }
            if core.read(GuestPhys(gfn * PAGE_BYTES as u64), &mut page).is_err() {
                leave_out(gfn, LeftOut::Unreadable);
                continue;
            }
            if page.iter().all(|byte| *byte == 0) {
                continue;
            }
            kept += 1;
            if kept > MAX_PAGES {
                return Err(ImportError::TooLarge);
            }
            writer.page(gfn, PageId::of(&page), &page).map_err(&io)?;
        }
    }
    imported.kept_bytes = (kept * PAGE_BYTES) as u64;
    left_out.sort_by_key(|(gfns, _)| gfns.start);
    let captured = CapturedCheckpoint {
        sample: Some(0),
        guest_ns,
        host_ns: HostNs(0),
        ram: core.ram(),
        base: CaptureBase::Zero,
        changed: Vec::new(),
        zeroed: Vec::new(),
        left_out,
    };
    writer.finish(&captured).map_err(io)
}

/// Number registers that the core has in the order of the CPUs: a kernel saves those of its online CPUs when it crashes, and the pid of
/// each one's task. What is not told, where that does not fit.
fn number(vcpus: &mut [VcpuRegs], online: Result<Vec<Cpu>, KernelError>) -> Option<String> {
    let why = match online {
        Ok(online) if online.len() == vcpus.len() => {
            vcpus.iter_mut().zip(online).for_each(|(vcpu, cpu)| vcpu.cpu = cpu);
            return None;
        }
        _ if vcpus.is_empty() => return None,
        Ok(online) => format!("{} were online", online.len()),
        Err(why) => format!("which were online cannot be read: {why}"),
    };
    let count = vcpus.len();
    Some(format!(
        "of which CPUs the registers are: the core has those of {count}, numbered here in their order, and {why}"
    ))
}

/// What this core does not tell.
fn not_told(core: &Core) -> Vec<String> {
    let mut not_told = vec![
        "what came before: a core is of one moment, without events, output and earlier captures".to_owned(),
        "statistics, which a scheduler tells only while it runs".to_owned(),
    ];
    if core.vcpus().is_empty() {
        not_told.push(
            "registers, which the core has none of: the stacks of running tasks are not known".to_owned(),
        );
    }
    if core.is_incomplete() {
        not_told.push("the end of the memory: the core is incomplete by its own word".to_owned());
    }
    if !core.absent().is_empty() {
        not_told.push("what is in pages that were not written into the core".to_owned());
    }
    not_told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_a_crashed_kernel_are_of_its_online_cpus() {
        let numbered = |online: Result<Vec<u32>, KernelError>| {
            let mut vcpus = vec![VcpuRegs::default(); 2];
            (0..).zip(&mut vcpus).for_each(|(nth, vcpu)| vcpu.cpu = Cpu(nth));
            let said = number(&mut vcpus, online.map(|cpus| cpus.into_iter().map(Cpu).collect()));
            (vcpus.iter().map(|vcpu| vcpu.cpu.0).collect::<Vec<_>>(), said)
        };
        assert_eq!(numbered(Ok(vec![0, 3])), (vec![0, 3], None));
        let (cpus, said) = numbered(Ok(vec![0, 1, 3]));
        assert_eq!(cpus, [0, 1]);
        assert!(said.is_some_and(|said| said.contains("has those of 2") && said.ends_with("3 were online")));
        let (cpus, said) =
            numbered(Err(KernelError::NoSymbol { name: "nr_cpu_ids".to_owned(), release: "7.3".to_owned() }));
        assert!(cpus == [0, 1] && said.is_some_and(|said| said.contains("nr_cpu_ids")));
        assert_eq!(number(&mut [], Ok(vec![Cpu(0)])), None);
    }
}
