//! Why no kernel can be taken out of a package.

use std::io;

/// Why no kernel can be taken out of a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// It is cut off, damaged, or of another form.
    #[error("its {part} cannot be read; download it again")]
    Broken {
        /// What was read.
        part: &'static str,
        /// What was found.
        source: io::Error,
    },
    /// A part of it is larger than is read.
    #[error("its {part} is larger than the limit of {} MiB", limit >> 20)]
    TooLarge {
        /// The part.
        part: &'static str,
        /// Bytes that are read at most.
        limit: u64,
    },
    /// It has more members than are looked at.
    #[error("it has more than {limit} members")]
    TooMany {
        /// The most that are looked at.
        limit: u64,
    },
    /// It is compressed in a way that is not read.
    #[error("its {part} is compressed in a way that is not read (zstd, xz, gzip and lzma are)")]
    Compression {
        /// The part.
        part: &'static str,
    },
    /// A compressed file without a package in it.
    #[error(
        "it is a compressed file and no package: there is no tar file in it; give a bzImage, a vmlinux, or a kernel package \
         (.deb, .rpm, .pkg.tar.zst)"
    )]
    NoTar,
    /// It is for another processor.
    #[error("it is for {arch}; kernels for x86_64 are booted")]
    Arch {
        /// The processor, as the package has it.
        arch: String,
    },
    /// There is no kernel in it.
    #[error(
        "it is {format}{} without a kernel: none of its {members} members is boot/vmlinuz-* or usr/lib/modules/*/vmlinuz (there {}){}",
        match name.as_str() { "" => String::new(), name => format!(" ({name})") },
        match found.as_slice() { [] => "is none".to_owned(), some => format!("are {}", some.join(", ")) },
        match needs.as_slice() {
            [] => String::new(),
            some => format!("; it needs other packages, of which one may hold it: {}", some.join(", ")),
        }
    )]
    NoImage {
        /// What it is.
        format: &'static str,
        /// Its name.
        name: String,
        /// How many members it has.
        members: u64,
        /// The first of them.
        found: Vec<String>,
        /// The packages of kernels that it needs.
        needs: Vec<String>,
    },
    /// There are several kernels in it.
    #[error("it holds several kernels: {}; give the file of one of them", found.join(", "))]
    Several {
        /// The paths of their images in the package.
        found: Vec<String>,
    },
}
