//! Bits by the names that the kernel's own enums give them.

use crate::btf::{Kind, Types};

/// The names of the bits that are set in `value`, by the enum `enum_name`, without `prefix`; what has no name is one
/// hexadecimal number at the end. Only enumerators of one bit are names; bits of `fields` are parts of a number and
/// are left out.
#[must_use]
pub fn named_flags(types: &Types, enum_name: &str, prefix: &str, value: u64, fields: u64) -> Vec<String> {
    let id = types.find(Kind::Enum, enum_name).or_else(|| types.find(Kind::Enum64, enum_name));
    let known = id.and_then(|id| types.enumerators(id).ok()).unwrap_or_default();
    let mut rest = value & !fields;
    let mut names = Vec::new();
    for one in known {
        // Enums with a negative member have the highest bit as a sign.
        let Ok(bit) =
            u64::try_from(one.value & i128::from(u32::MAX)).map(|low| match u64::try_from(one.value) {
                Ok(whole) => whole,
                Err(_) => low,
            })
        else {
            continue;
        };
        let is_number = ["_SHIFT", "_BITS", "_MASK"].iter().any(|end| one.name.ends_with(end));
        if bit.is_power_of_two() && rest & bit != 0 && !is_number {
            names.push(one.name.trim_start_matches(prefix).to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}
