//! Types that need no blob: numbers of a width, under the names that C programs give them.

use std::sync::LazyLock;

use btf_rs::Type;

use super::{BtfError, TypeId, Types};

/// The numbers: name, size in bytes, whether it is signed. The first unsigned one of a size names what has no type.
const NUMBERS: [(&str, u32, bool); 38] = [
    ("u8", 1, false),
    ("u16", 2, false),
    ("u32", 4, false),
    ("u64", 8, false),
    ("s8", 1, true),
    ("s16", 2, true),
    ("s32", 4, true),
    ("s64", 8, true),
    ("__u8", 1, false),
    ("__u16", 2, false),
    ("__u32", 4, false),
    ("__u64", 8, false),
    ("__s8", 1, true),
    ("__s16", 2, true),
    ("__s32", 4, true),
    ("__s64", 8, true),
    ("uint8_t", 1, false),
    ("uint16_t", 2, false),
    ("uint32_t", 4, false),
    ("uint64_t", 8, false),
    ("int8_t", 1, true),
    ("int16_t", 2, true),
    ("int32_t", 4, true),
    ("int64_t", 8, true),
    ("char", 1, true),
    ("signed char", 1, true),
    ("unsigned char", 1, false),
    ("short", 2, true),
    ("unsigned short", 2, false),
    ("int", 4, true),
    ("unsigned", 4, false),
    ("unsigned int", 4, false),
    ("long", 8, true),
    ("unsigned long", 8, false),
    ("long long", 8, true),
    ("unsigned long long", 8, false),
    ("size_t", 8, false),
    ("ssize_t", 8, true),
];

/// `void *`, behind the numbers and `bool`.
const POINTER: TypeId = TypeId(NUMBERS.len() as u32 + 2);

static PLAIN: LazyLock<Types> =
    LazyLock::new(|| Types::parse(blob()).expect("the blob of a constant of this file is BTF"));

/// The types of those names; `void *` is the last one.
pub(crate) fn plain() -> &'static Types {
    &PLAIN
}

/// The unsigned number of so many bytes; `None` for sizes that no number has.
pub(crate) fn plain_number(bytes: usize) -> Option<TypeId> {
    let fits = |&(_, size, signed): &(&str, u32, bool)| size as usize == bytes && !signed;
    let position = NUMBERS.iter().position(fits)?;
    Some(TypeId(u32::try_from(position).ok()? + 1))
}

/// The shape of a pointer that no blob has a type for.
pub(crate) fn plain_pointer() -> Result<&'static Type, BtfError> {
    plain().get(POINTER)
}

/// A BTF blob of the numbers, a `bool` and a pointer to void.
fn blob() -> Vec<u8> {
    let (mut types, mut strings) = (Vec::new(), vec![0u8]);
    let mut add = |name: &str, info: u32, size: u32, tail: &[u32]| {
        let at = if name.is_empty() { 0 } else { strings.len() as u32 };
        if !name.is_empty() {
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        for word in [at, info, size].iter().chain(tail) {
            types.extend_from_slice(&word.to_le_bytes());
        }
    };
    for (name, bytes, signed) in NUMBERS {
        add(name, 1 << 24, bytes, &[(u32::from(signed) << 24) | (bytes * 8)]);
    }
    add("bool", 1 << 24, 1, &[(4 << 24) | 8]);
    add("", 2 << 24, 0, &[]);
    let mut blob = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
        blob.extend_from_slice(&word.to_le_bytes());
    }
    blob.extend_from_slice(&types);
    blob.extend_from_slice(&strings);
    blob
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::Kind;

    #[test]
    fn every_name_is_a_number_of_its_size() {
        for (name, bytes, _) in NUMBERS {
            let id = plain().find(Kind::Int, name).unwrap();
            assert_eq!(plain().size_of(id), Ok(u64::from(bytes)), "{name}");
        }
        for bytes in [1, 2, 4, 8] {
            let id = plain_number(bytes).unwrap();
            assert_eq!(plain().describe(id), format!("u{}", bytes * 8));
        }
        assert_eq!(plain_number(3), None);
        assert_eq!(plain().describe(POINTER), "void *");
    }
}
