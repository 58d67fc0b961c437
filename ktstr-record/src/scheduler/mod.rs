//! Building a C scheduler for a kernel, with the hermetic BPF toolchain.
//!
//! A scheduler is a folder with `NAME.bpf.c` (the BPF side) and `NAME.c` (its loader), as in the kernel's
//! `tools/sched_ext`; [`build_c`] makes one static program of them:
//!
//! ```text
//! kernel's .BTF --bpftool btf dump--> vmlinux.h --+
//! NAME.bpf.c -------------------------------------+--clang -target bpf--> NAME.bpf.o
//! NAME.bpf.o --bpftool gen object, gen skeleton--> NAME.bpf.skel.h --+
//! NAME.c ------------------------------------------------------------+--clang, lld -static--> NAME
//! ```
//!
//! Headers are found in the scheduler's folder, in its `include/`, and in the toolchain (`bpf/*.h`, libc).

mod error;
mod sources;
mod tool;
mod build;

pub use build::{Extra, build_c, build_suite};
pub use error::BuildError;
