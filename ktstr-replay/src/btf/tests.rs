//! Types out of hand-made blobs, sound and hostile.

use proptest::prelude::*;

use super::*;
use crate::testing::btf::Builder;

#[test]
fn names_kinds_and_sizes_are_found() {
    let mut b = Builder::new();
    let u32 = b.unsigned("u32", 4);
    let list = b.structure("list", 16, &[("next", u32, 0, 0)]);
    let list_t = b.typedef("list", list);
    let three = b.array(list_t, 3);
    let pointer = b.pointer(three);
    let pointers = b.array(pointer, 2);
    let grid = b.array(pointers, 5);
    let types = b.types();
    assert_eq!(types.count(), 8);
    assert_eq!(types.find(Kind::Struct, "list"), Some(list));
    assert_eq!(types.find(Kind::Typedef, "list"), Some(list_t));
    assert_eq!(types.find(Kind::Union, "list"), None);
    assert_eq!(types.size_of(three).unwrap(), 48);
    assert_eq!(types.size_of(pointer).unwrap(), 8);
    assert_eq!(types.describe(pointer), "list[3] *");
    assert_eq!(types.describe(grid), "list[3] *[5][2]");
    assert_eq!(types.size_of(TypeId(0)), Err(BtfError::NoSize { id: TypeId(0), kind: Kind::Void }));
    assert_eq!(types.kind(TypeId(8)), Err(BtfError::NoSuchId { id: TypeId(8), count: 8 }));
}

#[test]
fn types_past_the_first_chunk_decode_as_themselves() {
    let mut b = Builder::new();
    let ids: Vec<TypeId> = (0..300).map(|n| b.unsigned(&format!("t{n}"), n + 1)).collect();
    let types = b.types();
    for (n, &id) in ids.iter().enumerate() {
        assert_eq!(types.size_of(id).unwrap(), n as u64 + 1);
        assert_eq!(types.find(Kind::Int, &format!("t{n}")), Some(id));
    }
}

#[test]
fn fields_are_found_through_anonymous_members() {
    let mut b = Builder::new();
    let u8 = b.unsigned("u8", 1);
    let u32 = b.unsigned("u32", 4);
    let deep = b.structure("", 8, &[("pad", u32, 0, 0), ("deep", u8, 40, 0)]);
    let either = b.union("", 8, &[("", deep, 0, 0), ("other", u32, 0, 0)]);
    let inner = b.structure("inner", 12, &[("n", u32, 0, 0), ("", either, 32, 0)]);
    b.structure("outer", 32, &[("first", u32, 0, 0), ("inner", inner, 64, 0), ("flag", u32, 161, 3)]);
    let types = b.types();
    let field = types.struct_field("outer", "inner.deep").unwrap();
    assert_eq!(field, Field { offset_bits: 64 + 32 + 40, width_bits: None, type_id: u8 });
    assert_eq!(field.offset_bytes(), 17);
    let flag = types.struct_field("outer", "flag").unwrap();
    assert_eq!((flag.offset_bits, flag.width_bits), (161, Some(3)));
    assert_eq!(
        types.struct_field("outer", "inner.nope").unwrap_err().to_string(),
        "`struct inner` has no field `nope`"
    );
    assert!(matches!(types.struct_field("outer", "first.x"), Err(BtfError::WrongKind { .. })));
    assert!(matches!(types.struct_field("nope", "x"), Err(BtfError::NoSuchName { .. })));
}

#[test]
fn enumerators_keep_sign_and_width() {
    let mut b = Builder::new();
    b.enumeration("small", &[("MINUS", -1), ("ONE", 1)]);
    b.enumeration64("big", &[("HIGH", 1 << 63 | 5)]);
    let types = b.types();
    assert_eq!(types.enum_name_of("small", -1), Some("MINUS"));
    assert_eq!(types.enum_name_of("big", (1 << 63) + 5), Some("HIGH"));
    assert_eq!(types.enum_name_of("small", 2), None);
}

#[test]
fn variables_of_a_section_are_listed() {
    let mut b = Builder::new();
    let u64 = b.unsigned("u64", 8);
    let section = b.section(".bss", 16, &[("one", u64, 0, 8), ("two", u64, 8, 8)]);
    let types = b.types();
    let id = types.find(Kind::Var, "two").unwrap();
    let two = Variable { name: "two", offset: 8, size: 8, type_id: u64, id };
    assert_eq!(types.variables(section).unwrap()[1], two);
    assert_eq!(types.variables(u64).unwrap(), []);
    assert_eq!(types.size_of(section).unwrap(), 16);
}

#[test]
fn cycles_end_in_an_error() {
    let mut b = Builder::new();
    // A typedef of itself, an array of itself, a struct with an anonymous member of its own type.
    let typedef = b.typedef("loop", TypeId(1));
    let array = b.array(TypeId(2), 1);
    let structure = b.structure("s", 8, &[("", TypeId(3), 0, 0)]);
    let types = b.types();
    assert!(matches!(types.resolve(typedef), Err(BtfError::TooDeep { .. })));
    assert!(matches!(types.size_of(array), Err(BtfError::TooDeep { .. })));
    assert!(matches!(types.member(structure, "x"), Err(BtfError::TooDeep { .. })));
    assert!(types.describe(typedef).starts_with("loop"));
}

/// A blob with a header of 32 bytes: its layout section says that kind 25 has 4 bytes and 8 for each of `vlen`.
fn with_layout(b: &Builder, described: bool) -> Vec<u8> {
    let old = b.blob();
    let word = |at: usize| u32::from_le_bytes(old[at..at + 4].try_into().unwrap());
    let body = &old[24..];
    let mut layout = vec![0u8; 26 * 4];
    (layout[100], layout[101]) = (4, 8);
    let mut blob = old[..4].to_vec();
    let len = if described { layout.len() as u32 } else { 0 };
    for value in [32, word(8), word(12), word(16), word(20), body.len() as u32, len] {
        blob.extend_from_slice(&value.to_le_bytes());
    }
    blob.extend_from_slice(body);
    blob.extend_from_slice(&layout);
    blob
}

#[test]
fn a_kind_of_a_later_kernel_is_skipped_where_the_blob_describes_it() {
    let mut b = Builder::new();
    let before = b.unsigned("before", 4);
    let later = b.raw("later", 25 << 24 | 2, 0, &[1, 2, 3, 4, 5]);
    let after = b.unsigned("after", 8);
    let types = Types::parse(with_layout(&b, true)).unwrap();
    assert_eq!(types.kind(later), Ok(Kind::Later));
    assert!(matches!(types.get(later), Err(BtfError::Undecodable { .. })));
    assert_eq!((types.size_of(before), types.size_of(after)), (Ok(4), Ok(8)));
    assert_eq!(types.find(Kind::Int, "after"), Some(after));

    let undescribed = Types::parse(with_layout(&b, false)).unwrap_err();
    assert_eq!(undescribed, BtfError::UnknownKind { id: later, kind: 25 });
}

#[test]
fn more_members_than_btf_rs_can_count_spoil_only_that_type() {
    let mut b = Builder::new();
    let count = 0x1_0001u32;
    let tail: Vec<u32> = (0..count * 2).collect::<Vec<_>>().iter().map(|_| 0).collect();
    let giant = b.raw("giant", 6 << 24 | count, 4, &tail);
    let after = b.unsigned("after", 8);
    let types = b.types();
    assert!(matches!(types.get(giant), Err(BtfError::Undecodable { .. })));
    assert_eq!(types.size_of(after), Ok(8));
}

#[test]
fn every_cut_of_a_blob_is_refused() {
    let mut b = Builder::new();
    let u64 = b.unsigned("u64", 8);
    b.section(".bss", 16, &[("one", u64, 0, 8)]);
    let blob = b.blob();
    for len in 0..blob.len() {
        assert!(Types::parse(blob[..len].to_vec()).is_err(), "cut at {len}");
    }
}

proptest! {
    #[test]
    fn any_bytes_after_a_header_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut blob = vec![0x9f, 0xeb, 1, 0];
        let types = body.len() as u32 / 2;
        for word in [24, 0, types, types, body.len() as u32 - types] {
            blob.extend_from_slice(&word.to_le_bytes());
        }
        blob.extend_from_slice(&body);
        if let Some(last) = blob.last_mut() {
            *last = 0;
        }
        if let Ok(types) = Types::parse(blob) {
            for id in 0..types.count() as u32 {
                let id = TypeId(id);
                let _ = (types.get(id), types.name(id), types.size_of(id), types.describe(id));
                let _ = (types.member(id, "x"), types.enumerators(id), types.variables(id));
            }
            let _ = types.find(Kind::Struct, "x");
        }
    }
}

#[test]
fn parameters_of_functions_keep_their_order() {
    let mut b = Builder::new();
    let u64 = b.unsigned("u64", 8);
    let aux = b.structure("bpf_prog_aux", 8, &[("refcnt", u64, 0, 0)]);
    let pointer = b.pointer(aux);
    let function = b.function("scx_bpf_create_dsq", &[u64, pointer]);
    let nothing = b.function("scx_bpf_now", &[]);
    let types = b.types();
    assert_eq!(types.parameters(function).unwrap(), [u64, pointer]);
    assert_eq!(types.describe(pointer), "struct bpf_prog_aux *");
    assert_eq!(types.parameters(nothing).unwrap(), []);
    assert_eq!(types.parameters(aux).unwrap(), []);
    assert!(types.parameters(TypeId(99)).is_err());
}
