//! BTF: parsed, every type described and laid out, and a value of each rendered.
#![no_main]

use ktstr_replay::btf::{TypeId, Types};
use ktstr_replay::value::Value;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(types) = Types::parse(input.to_vec()) else { return };
    let bytes: Vec<u8> = input.iter().copied().cycle().take(256).collect();
    for id in (0..=types.count().min(128) as u32).map(TypeId) {
        let _ = (
            types.kind(id),
            types.name(id),
            types.resolve(id).is_ok(),
            types.size_of(id),
            types.describe(id),
        );
        let _ = (types.enumerators(id), types.variables(id), types.target_of(id));
        for member in types.members(id).ok().flatten().unwrap_or_default() {
            if let Ok(name) = types.member_name(member) {
                let _ = types.field(id, name);
            }
        }
        let Ok(value) = Value::new(&types, id, &bytes) else { continue };
        let _ = (value.render(), value.to_json(), value.scalar(), value.parts(), value.as_str());
        let _ = (value.path("a.b[1]"), value.as_array());
    }
});
