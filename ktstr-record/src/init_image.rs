//! The guest's init, embedded.

/// PID 1 of every guest: a static x86-64 ELF, built from the package `guest-init` by this package's build
/// script. It goes into the initramfs as `/init`.
pub fn init_image() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/guest-init"))
}

#[cfg(test)]
mod tests {
    use object::Endianness;
    use object::elf::{FileHeader64, PT_INTERP};
    use object::read::elf::{FileHeader, ProgramHeader};

    use super::init_image;

    #[test]
    fn init_is_a_small_static_program() {
        let header = FileHeader64::<Endianness>::parse(init_image()).expect("an ELF");
        let segments = header.program_headers(Endianness::Little, init_image()).expect("program headers");
        assert!(segments.iter().all(|segment| segment.p_type(Endianness::Little) != PT_INTERP));
        assert!(init_image().len() < 1_500_000, "{} bytes", init_image().len());
    }
}
