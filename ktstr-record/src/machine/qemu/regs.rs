//! The layout of a register file, as the gdbstub describes it.
//!
//! Source: QEMU, `gdb-xml/i386-64bit.xml`, which the stub serves: registers in the order of the file, packed.

use std::collections::HashMap;

use ktstr_replay::trace::record::VcpuRegs;
use ktstr_replay::units::Cpu;

use super::gdb::Gdb;
use crate::machine::error::MachineError;

const GPR: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];
const SEGMENTS: [&str; 6] = ["cs", "ss", "ds", "es", "fs", "gs"];

/// Where the registers of [`VcpuRegs`] are in a register file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RegLayout {
    /// Numbers of the registers that are set one by one.
    pub(super) rip_number: usize,
    pub(super) rsp_number: usize,
    gpr: [InRegisterFile; 16],
    segments: [InRegisterFile; 6],
    rip: InRegisterFile,
    rflags: InRegisterFile,
    fs_base: InRegisterFile,
    gs_base: InRegisterFile,
    kernel_gs_base: InRegisterFile,
    cr0: InRegisterFile,
    cr2: InRegisterFile,
    cr3: InRegisterFile,
    cr4: InRegisterFile,
    efer: InRegisterFile,
    /// Size of the whole register file.
    bytes: usize,
}

/// Offset and size in bytes, inside of the register file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct InRegisterFile {
    offset: usize,
    bytes: usize,
}

impl RegLayout {
    /// Ask the stub.
    pub(super) fn of(gdb: &mut Gdb) -> Result<Self, MachineError> {
        let target = gdb.feature("target.xml")?;
        let mut described = String::new();
        for included in attributes(&target, "xi:include", "href") {
            described.push_str(&gdb.feature(included)?);
        }
        Self::parse(&described).map_err(|answer| {
            let what = "gdb's qXfer:features".into();
            MachineError::Protocol { what, answer }
        })
    }

    /// From the text of the description: `<reg name="rax" bitsize="64" .../>`.
    fn parse(xml: &str) -> Result<Self, String> {
        let xml = without_comments(xml);
        let mut places = HashMap::new();
        let mut numbers = HashMap::new();
        let mut offset = 0usize;
        for tag in tags(&xml, "reg") {
            let name = attribute(tag, "name").ok_or_else(|| format!("a register without a name: {tag}"))?;
            let bits = attribute(tag, "bitsize").and_then(|b| b.parse::<u16>().ok());
            let bytes =
                bits.map(|b| usize::from(b) / 8).ok_or_else(|| format!("register {name} without a size"))?;
            numbers.insert(name, numbers.len());
            places.insert(name, InRegisterFile { offset, bytes });
            offset += bytes;
        }
        let place = |name: &str| match places.get(name) {
            Some(place) if place.bytes <= 8 => Ok(*place),
            Some(place) => Err(format!("register {name} has {} bytes", place.bytes)),
            None => Err(format!("no register {name} among {}", places.len())),
        };
        let number = |name: &str| {
            // Registers are set in 64 bits.
            let number = numbers.get(name).filter(|_| places.get(name).is_some_and(|place| place.bytes == 8));
            number.copied().ok_or_else(|| format!("no register {name} of 64 bits among {}", places.len()))
        };
        let mut layout = Self {
            rip_number: number("rip")?,
            rsp_number: number("rsp")?,
            gpr: Default::default(),
            segments: Default::default(),
            rip: place("rip")?,
            rflags: place("eflags")?,
            fs_base: place("fs_base")?,
            gs_base: place("gs_base")?,
            kernel_gs_base: place("k_gs_base")?,
            cr0: place("cr0")?,
            cr2: place("cr2")?,
            cr3: place("cr3")?,
            cr4: place("cr4")?,
            efer: place("efer")?,
            bytes: offset,
        };
        for (to, name) in layout.gpr.iter_mut().zip(GPR) {
            *to = place(name)?;
        }
        for (to, name) in layout.segments.iter_mut().zip(SEGMENTS) {
            *to = place(name)?;
        }
        Ok(layout)
    }

    /// The registers of vCPU `cpu` out of its register file.
    pub(super) fn decode(&self, cpu: Cpu, file: &[u8]) -> Result<VcpuRegs, MachineError> {
        if file.len() != self.bytes {
            return Err(MachineError::Protocol {
                what: "gdb's g".into(),
                answer: format!("{} bytes, where {} were described", file.len(), self.bytes),
            });
        }
        let value = |place: InRegisterFile| {
            let bytes = &file[place.offset..place.offset + place.bytes];
            bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let mut regs = VcpuRegs {
            cpu,
            rip: value(self.rip),
            rflags: value(self.rflags),
            fs_base: value(self.fs_base),
            gs_base: value(self.gs_base),
            kernel_gs_base: value(self.kernel_gs_base),
            cr0: value(self.cr0),
            cr2: value(self.cr2),
            cr3: value(self.cr3),
            cr4: value(self.cr4),
            efer: value(self.efer),
            ..VcpuRegs::default()
        };
        for (to, place) in regs.gpr.iter_mut().zip(self.gpr) {
            *to = value(place);
        }
        for (to, place) in regs.segments.iter_mut().zip(self.segments) {
            *to = value(place) as u32;
        }
        Ok(regs)
    }
}

/// The description has registers in comments that are not in the file.
fn without_comments(xml: &str) -> String {
    let mut parts = xml.split("<!--");
    let first = parts.next().unwrap_or_default();
    let rest = parts.map(|part| part.split_once("-->").map_or("", |(_, after)| after));
    std::iter::once(first).chain(rest).collect()
}

/// The text of each `<name ...` tag.
fn tags<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    xml.split('<').filter_map(move |part| {
        let rest = part.strip_prefix(name)?;
        let rest = rest.starts_with(char::is_whitespace).then_some(rest)?;
        rest.split_once('>').map(|(tag, _)| tag)
    })
}

/// The value of `key="value"` in a tag.
fn attribute<'a>(tag: &'a str, key: &str) -> Option<&'a str> {
    tag.split_whitespace().find_map(|word| {
        let value = word.strip_prefix(key)?.strip_prefix("=\"")?;
        value.split_once('"').map(|(value, _)| value)
    })
}

fn attributes<'a>(xml: &'a str, name: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    tags(xml, name).filter_map(move |tag| attribute(tag, key))
}

#[cfg(test)]
impl RegLayout {
    /// That of QEMU 10.0, for the tests of others.
    pub(super) fn of_test() -> Self {
        Self::parse(&tests::description()).expect("a whole description")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Cpu, GPR, RegLayout, SEGMENTS, attributes};

    /// The description that QEMU 10.0 serves, shortened: its order, its sizes and its comments.
    pub(super) fn description() -> String {
        let reg =
            |name: &str, bits: u32| format!("<reg name=\"{name}\" bitsize=\"{bits}\" type=\"int64\"/>\n");
        let mut xml = String::from("<feature name=\"org.gnu.gdb.i386.core\">\n");
        xml.extend(GPR.map(|name| reg(name, 64)));
        xml += &reg("rip", 64);
        xml += &reg("eflags", 32);
        xml.extend(SEGMENTS.map(|name| reg(name, 32)));
        xml += "<!--reg name=\"cs_base\" bitsize=\"64\"/>\n<reg name=\"es_base\" bitsize=\"64\"/-->\n";
        let tail = ["fs_base", "gs_base", "k_gs_base", "cr0", "cr2", "cr3", "cr4", "cr8", "efer"];
        xml.extend(tail.map(|name| reg(name, 64)));
        xml.extend((0..8).map(|i| reg(&format!("st{i}"), 80)));
        xml.extend((0..9).map(|i| reg(&format!("control{i}"), 32)));
        xml.extend((0..16).map(|i| reg(&format!("xmm{i}"), 128)));
        xml + "</feature>"
    }

    #[test]
    fn offsets_are_those_of_the_measured_register_file() {
        let layout = RegLayout::parse(&description()).unwrap();
        let offsets = [layout.cr0, layout.cr2, layout.cr3, layout.cr4].map(|p| p.offset);
        assert_eq!(offsets, [188, 196, 204, 212]);
        assert_eq!((layout.rsp_number, layout.rip_number), (7, 16));
        let mut file = vec![0u8; 608];
        file[128..136].copy_from_slice(&0xffff_ffff_8100_0000u64.to_le_bytes());
        file[140] = 0x10;
        file[204..212].copy_from_slice(&0x1234_5000u64.to_le_bytes());
        let regs = layout.decode(Cpu(3), &file).unwrap();
        assert_eq!((regs.cpu, regs.rip, regs.segments[0]), (Cpu(3), 0xffff_ffff_8100_0000, 0x10));
        assert_eq!(regs.cr3, 0x1234_5000);
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = description().replace("k_gs_base", "other");
        assert!(RegLayout::parse(&without).unwrap_err().contains("no register k_gs_base"));
        let narrow = description().replace("name=\"rsp\" bitsize=\"64\"", "name=\"rsp\" bitsize=\"32\"");
        assert!(RegLayout::parse(&narrow).unwrap_err().contains("no register rsp of 64 bits"));
        let unsized_ = description().replace("name=\"cr3\" bitsize=\"64\"", "name=\"cr3\"");
        assert!(RegLayout::parse(&unsized_).unwrap_err().contains("cr3 without a size"));
        let layout = RegLayout::parse(&description()).unwrap();
        assert!(layout.decode(Cpu(0), &[0; 607]).is_err());
    }

    #[test]
    fn the_target_names_its_parts() {
        let target = "<?xml version=\"1.0\"?><target><architecture>i386:x86-64</architecture>\
                      <xi:include href=\"i386-64bit.xml\"/></target>";
        assert_eq!(attributes(target, "xi:include", "href").collect::<Vec<_>>(), ["i386-64bit.xml"]);
    }

    proptest! {
        #[test]
        fn no_description_panics(xml in "(<reg|<!--|-->|name=|\"|bitsize=|64| |>|x){0,40}") {
            let _ = RegLayout::parse(&xml);
        }
    }
}
