//! Values as text and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value as Json, json};

use super::{Container, Scalar, Value, ValueError};
use crate::btf::{Kind, TypeId};

/// Deepest nesting that is shown.
const MAX_DEPTH: usize = 24;
/// Parts that are shown in all: a trace's types are not trusted and can nest empty structs without end.
const MAX_PARTS: usize = 20_000;
/// Equal neighbours in an array, from which they are shown once with a count.
const REPEATS: usize = 4;

impl Value<'_> {
    /// Compact text: `{nr=3, comm="cat", state=RUNNING, hist=[1, 2, 0 x6]}`. What cannot be shown stands as `?` with
    /// its reason; very large values end in `...`.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut budget = MAX_PARTS;
        text(self, &mut out, &mut budget, 0);
        out
    }

    /// As JSON: structs are objects, character arrays strings, enums their names where they have one, pointers
    /// strings in hexadecimal, integers that no JSON reader holds strings in decimal.
    #[must_use]
    pub fn to_json(&self) -> Json {
        self.json_following(&|_| None)
    }

    /// As [`Value::to_json`], with what `beyond` knows to be elsewhere in memory: for a pointer what it points at,
    /// `{"pointer": "0x...", "to": ...}`, likewise for a number that is an address; for a tree or list its nodes.
    pub(crate) fn json_following(&self, beyond: &Beyond<'_>) -> Json {
        let mut budget = MAX_PARTS;
        json_of(self, beyond, &mut budget, 0)
    }
}

/// What is elsewhere in memory and belongs to a pointer, number, tree or list; `None` where nothing is.
pub(crate) type Beyond<'p> = dyn Fn(&Value<'_>) -> Option<Json> + 'p;

/// What a value is made of, for both outputs.
enum Shown<'a> {
    Text(String),
    Name(&'a str),
    Opaque(&'a str),
    Container(Container<'a>),
    Number(Scalar),
    Parts(Vec<(&'a str, Value<'a>)>),
    Elements { of: Value<'a>, element: TypeId, len: u64 },
}

fn shown<'a>(value: &Value<'a>) -> Result<Shown<'a>, ValueError> {
    let types = value.types();
    if let Some(container) = value.container() {
        return Ok(Shown::Container(container));
    }
    match known(value) {
        Ok(Some(Known::Cpus(list))) => return Ok(Shown::Text(list)),
        Ok(Some(Known::Opaque(name))) => return Ok(Shown::Opaque(name)),
        // A struct that only has the name of one is shown as any other.
        Ok(None) | Err(_) => {}
    }
    Ok(match value.kind()? {
        Kind::Struct | Kind::Union | Kind::Datasec => Shown::Parts(value.parts()?),
        Kind::Array if value.is_text()? => Shown::Text(value.as_str()?.into_owned()),
        Kind::Array => match value.array_shape()? {
            Some((element, len)) if types.size_of(element)? != 0 => {
                Shown::Elements { of: *value, element, len }
            }
            _ => Shown::Parts(Vec::new()),
        },
        Kind::Enum | Kind::Enum64 => match value.enumerator()? {
            Some(name) => Shown::Name(name),
            None => Shown::Number(value.scalar()?),
        },
        _ => Shown::Number(value.scalar()?),
    })
}

fn text(value: &Value<'_>, out: &mut String, budget: &mut usize, depth: usize) {
    if *budget == 0 || depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    *budget -= 1;
    match shown(value) {
        Err(why) => out.push_str(&format!("?({why})")),
        Ok(Shown::Text(text)) => out.push_str(&format!("{text:?}")),
        Ok(Shown::Name(name)) => out.push_str(name),
        Ok(Shown::Opaque(name)) => out.push_str(&format!("<{name}>")),
        Ok(Shown::Container(container)) => out.push_str(&container.without_memory()),
        Ok(Shown::Number(number)) => out.push_str(&number.to_string()),
        Ok(Shown::Parts(parts)) => {
            out.push('{');
            for (position, (name, part)) in parts.iter().enumerate() {
                if position > 0 {
                    out.push_str(", ");
                }
                if !name.is_empty() {
                    out.push_str(name);
                    out.push('=');
                }
                text(part, out, budget, depth + 1);
                if *budget == 0 {
                    break;
                }
            }
            out.push('}');
        }
        Ok(Shown::Elements { of, element, len }) => elements(&of, element, len, out, budget, depth),
    }
}

fn elements(of: &Value<'_>, element: TypeId, len: u64, out: &mut String, budget: &mut usize, depth: usize) {
    out.push('[');
    let mut index = 0;
    while index < len {
        if index > 0 {
            out.push_str(", ");
        }
        let Ok(first) = of.element_at(element, index) else {
            out.push('?');
            break;
        };
        let same = |next: u64| of.element_at(element, next).is_ok_and(|next| next.bytes() == first.bytes());
        let end = (index + 1..len).find(|&next| !same(next)).unwrap_or(len);
        text(&first, out, budget, depth + 1);
        if *budget == 0 {
            break;
        }
        if end - index >= REPEATS as u64 {
            out.push_str(&format!(" x{}", end - index));
            index = end;
        } else {
            index += 1;
        }
    }
    out.push(']');
}

fn json_of(value: &Value<'_>, beyond: &Beyond<'_>, budget: &mut usize, depth: usize) -> Json {
    if *budget == 0 || depth > MAX_DEPTH {
        return json!("...");
    }
    *budget -= 1;
    match shown(value) {
        Err(why) => json!({ "error": why.to_string() }),
        Ok(Shown::Text(text)) => json!(text),
        Ok(Shown::Name(name)) => json!(name),
        Ok(Shown::Opaque(name)) => json!(format!("<{name}>")),
        Ok(Shown::Container(container)) => beyond(value).unwrap_or_else(|| json!(container.without_memory())),
        Ok(Shown::Number(number)) => match (number, beyond(value)) {
            (Scalar::Pointer(_), Some(to)) => json!({ "pointer": number.to_json(), "to": to }),
            (Scalar::Int(_), Some(to)) => json!({ "number": number.to_json(), "to": to }),
            _ => number.to_json(),
        },
        Ok(Shown::Parts(parts)) => {
            let mut object = Map::new();
            for (name, part) in parts {
                if *budget == 0 {
                    object.insert("...".into(), json!("..."));
                    break;
                }
                match (name.is_empty(), json_of(&part, beyond, budget, depth + 1)) {
                    // Members of an anonymous struct are reached by their own names.
                    (true, Json::Object(inner)) => object.extend(inner),
                    (true, _) => {}
                    (false, part) => _ = object.insert(name.to_owned(), part),
                }
            }
            Json::Object(object)
        }
        Ok(Shown::Elements { of, element, len }) => {
            let mut array = Vec::new();
            for index in 0..len {
                if *budget == 0 {
                    array.push(json!("..."));
                    break;
                }
                let Ok(one) = of.element_at(element, index) else { break };
                array.push(json_of(&one, beyond, budget, depth + 1));
            }
            Json::Array(array)
        }
    }
}

/// What a struct is, by its name.
enum Known<'a> {
    /// A set of CPUs, as the kernel lists them: `0-3,8`.
    Cpus(String),
    /// An object in a program's memory of which only the kernel knows the layout.
    Opaque(&'a str),
}

/// Most bytes of a set of CPUs: 65,536 CPUs.
const MAX_MASK_BYTES: usize = 8 << 10;

/// Objects that programs embed and only the kernel looks into (`btf_parse_fields` in `kernel/bpf/btf.c`).
const OPAQUE: [&str; 10] = [
    "bpf_dynptr",
    "bpf_list_node",
    "bpf_rb_node",
    "bpf_refcount",
    "bpf_res_spin_lock",
    "bpf_spin_lock",
    "bpf_task_work",
    "bpf_timer",
    "bpf_wq",
    "rqspinlock",
];

/// What `value` is, if it is one of those.
fn known<'a>(value: &Value<'a>) -> Result<Option<Known<'a>>, ValueError> {
    let types = value.types();
    if value.kind()? != Kind::Struct {
        return Ok(None);
    }
    let name = types.name(types.resolve(value.type_id())?.0)?;
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
