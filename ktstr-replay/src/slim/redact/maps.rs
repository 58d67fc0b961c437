//! Entries of maps: numbers stay, text goes.

use std::collections::BTreeSet;

use super::memory::{blank_text, text_bytes};
use super::types::Shape;
use super::{FILLER, REDACTED, Redactor, SECRET_BYTES};
use crate::trace::record::{MapContents, MapState};

/// Keys and values of a map, with the shape of one of each.
struct Shapes {
    key: Shape,
    value: Shape,
}

fn shapes(redactor: &Redactor, map: &MapState) -> Shapes {
    let types = map.btf.and_then(|id| redactor.types.get(&id));
    let shape = |id: u32| types.map(|types| Shape::of(types, id)).unwrap_or_default();
    Shapes { key: shape(map.key_type_id), value: shape(map.value_type_id) }
}

/// The entries of `map` without text.
pub(super) fn without_text(redactor: &Redactor, map: &MapState) -> MapContents {
    let Shapes { key, value } = shapes(redactor, map);
    let blank = |bytes: &[u8], size: u32, shape: &Shape| {
        let mut bytes = bytes.to_vec();
        for one in bytes.chunks_mut((size as usize).max(1)) {
            blank_one(one, shape, &redactor.secrets);
        }
        bytes
    };
    let (keys_of, values_of) = (
        |bytes: &[u8]| blank(bytes, map.key_size, &key),
        |bytes: &[u8]| blank(bytes, map.value_size, &value),
    );
    match &map.contents {
        MapContents::Array { values } => MapContents::Array { values: values_of(values) },
        MapContents::PerCpuArray { cpus, values } => {
            MapContents::PerCpuArray { cpus: cpus.clone(), values: values_of(values) }
        }
        MapContents::Hash { keys, values } => {
            MapContents::Hash { keys: keys_of(keys), values: values_of(values) }
        }
        MapContents::PerCpuHash { cpus, keys, values } => {
            MapContents::PerCpuHash { cpus: cpus.clone(), keys: keys_of(keys), values: values_of(values) }
        }
        MapContents::Unread { why: _ } => MapContents::Unread { why: REDACTED.to_owned() },
    }
}

/// Take the text out of one key or value.
fn blank_one(bytes: &mut [u8], shape: &Shape, secrets: &BTreeSet<Vec<u8>>) {
    for text in &shape.texts {
        for byte in bytes.get_mut(text.clone()).unwrap_or_default() {
            if *byte != 0 {
                *byte = FILLER;
            }
        }
    }
    // Between numbers there may be text that types do not tell of, such as bytes.
    let mut at = 0;
    for number in &shape.numbers {
        if let Some(gap) = bytes.get_mut(at..number.start) {
            blank_text(gap, secrets);
        }
        at = at.max(number.end);
    }
    blank_text(bytes.get_mut(at..).unwrap_or_default(), secrets);
}

/// The texts in a map that types tell of.
pub(super) fn texts(redactor: &Redactor, map: &MapState) -> Vec<Vec<u8>> {
    let Shapes { key, value } = shapes(redactor, map);
    let (keys, values): (&[u8], &[u8]) = match &map.contents {
        MapContents::Array { values } | MapContents::PerCpuArray { values, .. } => (&[], values),
        MapContents::Hash { keys, values } | MapContents::PerCpuHash { keys, values, .. } => (keys, values),
        MapContents::Unread { .. } => (&[], &[]),
    };
    let mut found = BTreeSet::new();
    for (bytes, size, shape) in [(keys, map.key_size, &key), (values, map.value_size, &value)] {
        for one in bytes.chunks((size as usize).max(1)) {
            for text in shape.texts.iter().filter_map(|text| one.get(text.clone())) {
                let text = &text[..text_bytes(text)];
                if text.len() >= SECRET_BYTES {
                    found.insert(text.to_vec());
                }
            }
        }
    }
    found.into_iter().collect()
}
