//! Kfuncs of sched_ext that a kernel's BTF shows with an argument which schedulers do not give.
//!
//! Since Linux 7.1 the last argument of most kfuncs of sched_ext, a `struct bpf_prog_aux *`, is given by the verifier
//! (`KF_IMPLICIT_ARGS`, `Documentation/bpf/kfuncs.rst`). While a kernel is built, `resolve_btfids` makes two functions of
//! such a kfunc: `NAME`, without that argument, and `NAME_impl`, with it. Where its list of kfuncs is incomplete, `NAME`
//! keeps the argument, and libbpf refuses every scheduler that calls it: `func_proto incompatible with vmlinux`. Debian's
//! 7.1.3, 7.1.8 and 7.1.13 are so, each with other kfuncs; its 6.16.12, 7.0.13, 7.2.13 and 7.3.4 are not.

use ktstr_replay::btf::{BtfError, Kind, Types};
use object::read::ReadRef;
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, elf};

use super::super::error::ImageError;

/// How the names of sched_ext's kfuncs begin.
const PREFIXES: [&str; 3] = ["scx_bpf_", "__scx_bpf_", "bpf_iter_scx_"];
/// Ends the name of the function that has the argument in a sound kernel.
const WITH_ARGUMENT: &str = "_impl";
/// The argument.
const IMPLICIT: &str = "struct bpf_prog_aux *";

/// The kfuncs of sched_ext in the BTF of a kernel's ELF that have the argument, by name. Empty for a sound kernel. Of the file only its
/// headers and the BTF are read.
///
/// # Errors
/// [`ImageError`] where there is no BTF, or it cannot be read.
pub(super) fn with_hidden_argument<'d, R: ReadRef<'d>>(file: R) -> Result<Vec<String>, ImageError> {
    let header = elf::FileHeader64::<Endianness>::parse(file).map_err(ImageError::Elf)?;
    let endian = header.endian().map_err(ImageError::Elf)?;
    let sections = header.sections(endian, file).map_err(ImageError::Elf)?;
    let (_, section) = sections.section_by_name(endian, b".BTF").ok_or(ImageError::NoBtf)?;
    let bytes = section.data(endian, file).map_err(ImageError::Elf)?;
    let broken = |error: BtfError| ImageError::BrokenBtf { why: error.to_string() };
    let types = Types::parse(bytes.to_vec()).map_err(broken)?;
    found(&types).map_err(broken)
}

fn found(types: &Types) -> Result<Vec<String>, BtfError> {
    let mut found = Vec::new();
    for function in types.of_kind(Kind::Func) {
        let name = types.name(function)?;
        let is_kfunc = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if !is_kfunc || name.ends_with(WITH_ARGUMENT) {
            continue;
        }
        let is_implicit = |&parameter: &_| types.describe(parameter) == IMPLICIT;
        if types.parameters(function)?.iter().any(is_implicit) {
            found.push(name.to_owned());
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ktstr_replay::testing::btf::Builder;

    use super::super::image::synthetic;
    use super::*;

    /// As Debian's 7.1.13 has it: one kfunc was seen while the kernel was built, another was not.
    #[test]
    fn a_kfunc_with_the_verifiers_argument_is_found() {
        let mut b = Builder::new();
        let u64 = b.unsigned("u64", 8);
        let aux = b.structure("bpf_prog_aux", 8, &[("refcnt", u64, 0, 0)]);
        let constant = b.raw("", 10 << 24, aux.0, &[]);
        let (pointer, to_constant) = (b.pointer(aux), b.pointer(constant));
        b.function("scx_bpf_kick_cpu", &[u64]);
        b.function("scx_bpf_kick_cpu_impl", &[u64, to_constant]);
        b.function("scx_bpf_create_dsq", &[u64, u64, to_constant]);
        b.function("__scx_bpf_select_cpu_and", &[u64, pointer]);
        b.function("bpf_prog_get_assoc_struct_ops", &[pointer]);
        assert_eq!(found(&b.types()).unwrap(), ["__scx_bpf_select_cpu_and", "scx_bpf_create_dsq"]);
    }

    #[test]
    fn a_blob_that_is_no_btf_is_an_error() {
        let text = with_hidden_argument(&*synthetic::without(b"\x9f\xeb")).unwrap_err().to_string();
        assert!(text.contains("BTF"), "{text}");
        assert!(with_hidden_argument(&b"text"[..]).is_err());
    }
}
