//! A guest in whose memory a kernel is made, object by object.

use std::collections::BTreeMap;

use super::btf::Builder;
use super::layout::{Layouts, TypeNumber};
use super::memory::{Ram, map_page};
use super::structs::KERNEL;
use crate::btf::TypeId;
use crate::kernel::{KernelProfile, Symbols};
use crate::memory::Memory;
use crate::units::GuestPhys;

/// Where [`Guest`] maps its RAM: the kernel's direct map of 4-level kernels.
pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
/// Bytes of one CPU's per-CPU memory.
pub const PER_CPU_BYTES: u64 = 64 << 10;
const RAM_BYTES: u64 = 4 << 20;
const TABLE: u64 = 0x1000;
const FREE_TABLES: u64 = 0x2000;
const FIRST_FREE: u64 = 0x1_0000;
/// Where per-CPU memory begins, and room for objects ends.
const PER_CPU: u64 = 3 << 20;
/// Where vmcoreinfo says that the page table is; it is mapped there too.
const TABLE_VIRT: u64 = 0xffff_ffff_8000_0000 + TABLE;

/// An object of the kernel: where it is and of what type.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Its virtual address, or that within per-CPU memory.
    pub at: u64,
    of: TypeNumber,
}

impl From<Object> for u64 {
    fn from(object: Object) -> Self {
        object.at
    }
}

/// A guest with a kernel: RAM, a page table, types and symbols.
///
/// ```
/// use ktstr_replay::kernel::KernelView;
/// use ktstr_replay::kernel::task::read_tasks;
/// use ktstr_replay::testing::Guest;
///
/// // Another seed is another layout of every struct.
/// let mut guest = Guest::new(7);
/// guest.cpus(1);
/// guest.per_cpu("runqueues", "rq");
/// let init = guest.variable("init_task", "task_struct");
/// guest.set(init, "pid", 1u32);
/// guest.text(init, "comm", "init");
/// guest.ring(&[guest.at(init, "tasks")]);
///
/// let profile = guest.profile();
/// let tasks = read_tasks(&KernelView::new(&profile, &guest.ram))?;
/// assert_eq!(tasks.by_pid(1).map(|task| task.comm.as_str()), Some("init"));
/// # Ok::<(), ktstr_replay::kernel::KernelError>(())
/// ```
pub struct Guest {
    /// Its RAM, of which virtual address [`DIRECT_MAP`] is the first byte.
    pub ram: Ram,
    layouts: Layouts,
    symbols: BTreeMap<String, u64>,
    free: u64,
    per_cpu_free: u64,
}

impl Guest {
    /// A guest whose kernel has the types of the toy kernel, laid out by `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::lacking(seed, &[])
    }

    /// As [`Guest::new`], of a kernel that lacks these structs, enums and fields: `rq`, `rq.curr`.
    #[must_use]
    pub fn lacking(seed: u64, lacking: &[&str]) -> Self {
        let mut guest = Self::without_types(seed, lacking);
        guest.declare(KERNEL);
        guest
    }

    /// A guest whose kernel has these types only, declared as those of the toy kernel.
    #[must_use]
    pub fn of(seed: u64, declarations: &str) -> Self {
        let mut guest = Self::without_types(seed, &[]);
        guest.declare(declarations);
        guest
    }

    fn without_types(seed: u64, lacking: &[&str]) -> Self {
        let mut ram = Ram::new(RAM_BYTES as usize);
        let mut free = FREE_TABLES;
        map_page(&mut ram, TABLE, 4, DIRECT_MAP, 0, 3, &mut free);
        map_page(&mut ram, TABLE, 4, TABLE_VIRT, 0, 2, &mut free);
        let layouts = Layouts::new(seed, lacking);
        Self { ram, layouts, symbols: BTreeMap::new(), free: FIRST_FREE, per_cpu_free: 0x40 }
    }

    /// Declare more types.
    pub fn declare(&mut self, declarations: &str) {
        self.layouts.declare(declarations);
    }

    /// The kernel's types as they are collected.
    pub fn types(&mut self) -> &mut Builder {
        &mut self.layouts.btf
    }

    /// The number of a declared type in BTF.
    #[must_use]
    pub fn type_id(&self, of: &str) -> TypeId {
        self.layouts.id(self.layouts.declared(of))
    }

    /// Room for `len` bytes; its virtual address.
    pub fn alloc(&mut self, len: u64) -> u64 {
        let at = self.free;
        self.free = (at + len).next_multiple_of(64);
        assert!(self.free <= PER_CPU, "the test's guest is too small");
        DIRECT_MAP + at
    }

    /// Room for `bytes`, filled with them; its virtual address.
    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.alloc(bytes.len() as u64);
        self.write(at, bytes);
        at
    }

    /// An object of a type.
    pub fn add(&mut self, of: &str) -> Object {
        self.add_with(of, 0)
    }

    /// An object of a type that ends with an array without a length, of which there are `bytes`.
    pub fn add_with(&mut self, of: &str, bytes: u64) -> Object {
        let of = self.layouts.of(of);
        Object { at: self.alloc(self.layouts.bytes(of) + bytes), of }
    }

    /// Objects of a type, one after the other.
    pub fn array(&mut self, of: &str, count: u64) -> Vec<Object> {
        let of = self.layouts.of(of);
        let each = self.layouts.bytes(of);
        let first = self.alloc(each * count);
        (0..count).map(|n| Object { at: first + n * each, of }).collect()
    }

    /// A variable of a type.
    pub fn variable(&mut self, name: &str, of: &str) -> Object {
        let object = self.add(of);
        self.symbol(name, object.at);
        object
    }

    /// A variable that is a number.
    pub fn number(&mut self, name: &str, of: &str, value: impl Into<u64>) -> Object {
        let object = self.variable(name, of);
        self.set(object, "", value);
        object
    }

    /// A per-CPU object; with a name, a variable.
    pub fn per_cpu(&mut self, name: &str, of: &str) -> Object {
        let of = self.layouts.of(of);
        let at = self.per_cpu_free;
        self.per_cpu_free = (at + self.layouts.bytes(of)).next_multiple_of(64);
        assert!(self.per_cpu_free <= PER_CPU_BYTES, "the test's per-CPU memory is too small");
        if !name.is_empty() {
            self.symbol(name, at);
        }
        Object { at, of }
    }

    /// CPU `cpu`'s copy of a per-CPU object.
    #[must_use]
    pub fn on_cpu(&self, object: Object, cpu: u64) -> Object {
        Object { at: DIRECT_MAP + PER_CPU + cpu * PER_CPU_BYTES + object.at, ..object }
    }

    /// The object that a field is, or an element of an array.
    #[must_use]
    pub fn part(&self, object: Object, path: &str) -> Object {
        let place = self.layouts.place(object.of, path);
        Object { at: object.at + place.offset_bits / 8, of: place.of }
    }

    /// The address of a field.
    #[must_use]
    pub fn at(&self, object: Object, path: &str) -> u64 {
        self.part(object, path).at
    }

    /// The distance of a field from the beginning of its declared type.
    #[must_use]
    pub fn offset(&self, of: &str, path: &str) -> u64 {
        self.layouts.place(self.layouts.declared(of), path).offset_bits / 8
    }

    /// The length of a declared type.
    #[must_use]
    pub fn bytes(&self, of: &str) -> u64 {
        self.layouts.bytes(self.layouts.declared(of))
    }

    /// Set a number or a pointer; what does not fit its width is cut.
    pub fn set(&mut self, object: Object, path: &str, value: impl Into<u64>) {
        let place = self.layouts.number(self.layouts.place(object.of, path));
        let at = object.at + place.offset_bits / 8;
        let value = value.into();
        if place.bits == 0 {
            let bytes = value.to_le_bytes();
            return self.write(at, &bytes[..(self.layouts.bytes(place.of) as usize).min(8)]);
        }
        let shift = place.offset_bits % 8;
        let mask = ((1u64 << place.bits) - 1) << shift;
        let before = self.word(at);
        self.write(at, &((before & !mask) | (value << shift & mask)).to_le_bytes());
    }

    /// Set a signed number.
    pub fn set_signed(&mut self, object: Object, path: &str, value: i64) {
        self.set(object, path, value.cast_unsigned());
    }

    /// Set the text of a character array.
    pub fn text(&mut self, object: Object, path: &str, text: &str) {
        self.write(self.at(object, path), text.as_bytes());
    }

    /// Set a pointer to a text with its NUL.
    pub fn point_at_text(&mut self, object: Object, path: &str, text: &str) {
        let at = self.put(format!("{text}\0").as_bytes());
        self.set(object, path, at);
    }

    /// Chain `struct list_head`s to a ring.
    pub fn ring(&mut self, nodes: &[u64]) {
        for (at, next) in nodes.iter().zip(nodes.iter().cycle().skip(1)) {
            self.write_u64(*at, *next);
            self.write_u64(*next + 8, *at);
        }
    }

    /// Write at a virtual address of RAM.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        self.ram.write(at - DIRECT_MAP, bytes);
    }

    /// Write a `u32` at a virtual address of RAM.
    pub fn write_u32(&mut self, at: u64, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    /// Write a `u64` at a virtual address of RAM.
    pub fn write_u64(&mut self, at: u64, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    /// The `u64` at a virtual address of RAM.
    #[must_use]
    pub fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        self.ram.read(GuestPhys(at - DIRECT_MAP), &mut word).expect("the address is in RAM");
        u64::from_le_bytes(word)
    }

    /// Name an address.
    pub fn symbol(&mut self, name: &str, at: u64) {
        self.symbols.insert(name.to_owned(), at);
    }

    /// CPUs 0 to `count`, all online.
    pub fn cpus(&mut self, count: u64) {
        self.number("nr_cpu_ids", "u32", count);
        let offsets = self.array("u64", count);
        self.symbol("__per_cpu_offset", offsets[0].at);
        for name in ["__cpu_possible_mask", "__cpu_online_mask"] {
            self.number(name, "u64", (1u64 << count) - 1);
        }
        for (cpu, offset) in (0..).zip(offsets) {
            self.set(offset, "", DIRECT_MAP + PER_CPU + cpu * PER_CPU_BYTES);
        }
    }

    /// The text of its vmcoreinfo.
    #[must_use]
    pub fn vmcoreinfo() -> String {
        format!("OSRELEASE=6.99-test\nSYMBOL(init_top_pgt)={TABLE_VIRT:x}\nNUMBER(phys_base)=0\n")
    }

    /// What is known of its kernel.
    #[must_use]
    pub fn profile(&self) -> KernelProfile {
        self.profile_with("")
    }

    /// Its profile, with these lines more in vmcoreinfo.
    #[must_use]
    pub fn profile_with(&self, lines: &str) -> KernelProfile {
        let mut symbols: Vec<_> = self.symbols.iter().map(|(name, at)| (*at, b'D', name.as_str())).collect();
        symbols.sort_unstable();
        let info = Self::vmcoreinfo() + lines;
        KernelProfile::from_blobs(
            info.as_bytes(),
            Symbols::from_list(symbols).encode(),
            self.layouts.btf.blob(),
        )
        .expect("a profile of what was declared")
    }
}
