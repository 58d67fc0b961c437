//! Structs that are shown as what they mean rather than as what they are made of.

use std::fmt::Write;

use super::{Value, ValueError};
use crate::btf::Kind;

/// What a struct is, by its name.
pub(super) enum Known<'a> {
    /// A set of CPUs, as the kernel lists them: `0-3,8`.
    Cpus(String),
    /// The kernel's own object in a program's memory; its bytes say nothing to anyone else.
    Opaque(&'a str),
}

/// Most bytes of a set of CPUs: 65,536 CPUs.
const MAX_MASK_BYTES: usize = 8 << 10;

/// Objects that programs embed and only the kernel looks into (`btf_parse_fields` in `kernel/bpf/btf.c`).
const OPAQUE: [&str; 12] = [
    "bpf_dynptr",
    "bpf_list_head",
    "bpf_list_node",
    "bpf_rb_node",
    "bpf_rb_root",
    "bpf_refcount",
    "bpf_res_spin_lock",
    "bpf_spin_lock",
    "bpf_task_work",
    "bpf_timer",
    "bpf_wq",
    "rqspinlock",
];

/// What `value` is, if it is one of those.
pub(super) fn known<'a>(value: &Value<'a>) -> Result<Option<Known<'a>>, ValueError> {
    let types = value.types();
    let (id, _) = types.resolve(value.type_id())?;
    if types.kind(id)? != Kind::Struct {
        return Ok(None);
    }
    let name = types.name(id)?;
    Ok(match name {
        "cpumask" => Some(Known::Cpus(cpus(value.path("bits")?.bytes()))),
        "bpf_cpumask" => Some(Known::Cpus(cpus(value.path("cpumask.bits")?.bytes()))),
        _ if OPAQUE.contains(&name) => Some(Known::Opaque(name)),
        _ => None,
    })
}

/// The numbers of the bits that are set, neighbours as a range.
fn cpus(mask: &[u8]) -> String {
    let bits = mask.iter().take(MAX_MASK_BYTES).zip(0u32..);
    let set = bits
        .flat_map(|(byte, at)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit));
    let mut out = String::new();
    let mut run: Option<(u32, u32)> = None;
    let mut close = |run: Option<(u32, u32)>| {
        let Some((first, last)) = run else { return };
        let comma = if out.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = match first == last {
            true => write!(out, "{comma}{first}"),
            false => write!(out, "{comma}{first}-{last}"),
        };
    };
    for cpu in set {
        run = match run {
            Some((first, last)) if last + 1 == cpu => Some((first, cpu)),
            before => {
                close(before);
                Some((cpu, cpu))
            }
        };
    }
    close(run);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::btf::Builder;
    use serde_json::json;

    #[test]
    fn masks_are_lists_of_cpus() {
        for (mask, list) in [
            (vec![0u8; 8], ""),
            (vec![0b1000_1111, 1], "0-3,7-8"),
            (vec![0b0101_0000], "4,6"),
            (vec![0, 0x80], "15"),
            (vec![0xff; 8], "0-63"),
        ] {
            assert_eq!(cpus(&mask), list);
        }
    }

    #[test]
    fn known_structs_are_shown_as_what_they_mean() {
        let mut b = Builder::new();
        let u64 = b.unsigned("u64", 8);
        let bits = b.array(u64, 2);
        let mask = b.structure("cpumask", 16, &[("bits", bits, 0, 0)]);
        let typedef = b.typedef("cpumask_t", mask);
        let own = b.structure("bpf_cpumask", 24, &[("cpumask", typedef, 0, 0), ("usage", u64, 128, 0)]);
        let timer = b.structure("bpf_timer", 16, &[("__opaque", bits, 0, 0)]);
        let all = b.structure(
            "ctx",
            56,
            &[("mask", typedef, 0, 0), ("own", own, 128, 0), ("timer", timer, 320, 0)],
        );
        let types = b.types();
        let mut bytes = vec![0u8; 56];
        bytes[0] = 0b11;
        bytes[16] = 0b1000;
        bytes[40] = 0xaa;
        let value = Value::new(&types, all, &bytes).unwrap();
        assert_eq!(value.render(), r#"{mask="0-1", own="3", timer=<bpf_timer>}"#);
        assert_eq!(value.to_json(), json!({ "mask": "0-1", "own": "3", "timer": "<bpf_timer>" }));
    }
}
