//! Source lines of BPF code, out of the line table that its program was loaded with.
//!
//! Sources: `struct bpf_prog_aux` (`linfo`, `jited_linfo`), `bpf_prog_fill_jited_linfo` of `kernel/bpf/core.c`, `struct bpf_line_info`
//! of `include/uapi/linux/bpf.h`, `struct btf` of `kernel/bpf/btf.c`, of Linux.

use crate::kernel::mirror::mirror;
use crate::kernel::progs::ProgAux;
use crate::kernel::trees::idr_entries;
use crate::kernel::{KernelError, KernelView, bytes};
use crate::units::KernelVirt;

mirror! {
    /// `struct bpf_prog_aux`, as far as lines go.
    struct AuxLines, AuxLinesLayout = "bpf_prog_aux" {
        id: u32,
        btf: KernelVirt,
        linfo: KernelVirt,
        jited_linfo: KernelVirt,
        nr_linfo: u32,
    }
}

mirror! {
    /// `struct btf`, as far as its strings go.
    struct BtfStrings, BtfStringsLayout = "btf" {
        strings: KernelVirt,
        data: KernelVirt,
        data_size: u32,
    }
}

/// Most programs that are looked through.
const MAX_PROGRAMS: usize = 4096;
/// Most lines of a program.
const MAX_LINES: usize = 1 << 16;
/// Size of `struct bpf_line_info`, which user space's interface fixes.
const LINE_INFO_BYTES: usize = 16;
/// Longest text of a line or name of a file, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// The line of the program with this id whose machine code, from `begin` of the function that it is in, has `at`:
/// `main.bpf.c:120: nr_stalls++;`. `None` for a program that was loaded without lines.
///
/// # Errors
/// When the program or its table cannot be read.
pub(super) fn line_of(
    view: &KernelView<'_>,
    id: u32,
    begin: KernelVirt,
    at: KernelVirt,
) -> Result<Option<String>, KernelError> {
    for (_, prog) in idr_entries(view, "prog_idr", MAX_PROGRAMS)? {
        let prog: ProgAux = view.mirror(prog)?;
        let aux: AuxLines = view.mirror(prog.aux)?;
        if aux.id != id {
            continue;
        }
        if aux.linfo.0 == 0 || aux.jited_linfo.0 == 0 || aux.btf.0 == 0 {
            return Ok(None);
        }
        let count = (aux.nr_linfo as usize).min(MAX_LINES);
        let code = view.bytes(aux.jited_linfo, count * 8)?;
        let starts = bytes::u64s(&code).enumerate().filter(|(_, start)| (begin.0..=at.0).contains(start));
        let Some((nth, _)) = starts.max_by_key(|(_, start)| *start) else { return Ok(None) };
        let entry = view
            .bytes(KernelVirt(aux.linfo.0.wrapping_add((nth * LINE_INFO_BYTES) as u64)), LINE_INFO_BYTES)?;
        let word = |n: usize| {
            entry
                .get(n * 4..)
                .and_then(|rest| rest.first_chunk::<4>())
                .map_or(0, |word| u32::from_le_bytes(*word))
        };
        let btf: BtfStrings = view.mirror(aux.btf)?;
        let file = text(view, &btf, word(1))?;
        let line = text(view, &btf, word(2))?;
        let file = file.rsplit('/').next().unwrap_or(&file);
        // `BPF_LINE_INFO_LINE_NUM`: the column has the lower ten bits.
        return Ok(Some(format!("{file}:{}: {}", word(3) >> 10, line.trim())));
    }
    Ok(None)
}

/// The text at `offset` of a BTF's strings.
fn text(view: &KernelView<'_>, btf: &BtfStrings, offset: u32) -> Result<String, KernelError> {
    let at = btf.strings.0.wrapping_add(u64::from(offset));
    let left = btf.data.0.wrapping_add(u64::from(btf.data_size)).saturating_sub(at);
    let found =
        view.bytes(KernelVirt(at), usize::try_from(left).unwrap_or(usize::MAX).min(MAX_TEXT_BYTES))?;
    let end = found.iter().position(|&byte| byte == 0).unwrap_or(found.len());
    Ok(String::from_utf8_lossy(&found[..end]).into_owned())
}
