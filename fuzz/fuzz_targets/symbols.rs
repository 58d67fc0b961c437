//! The symbols of a kernel, as a trace keeps them.
#![no_main]

use ktstr_replay::kernel::{Symbols, Vmcoreinfo};
use ktstr_replay::units::KernelVirt;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = Vmcoreinfo::parse(input)
        .map(|info| (info.number("NUMBER(phys_base)"), info.symbol("swapper_pg_dir")));
    let Ok(symbols) = Symbols::decode(input.to_vec()) else { return };
    let again = Symbols::decode(symbols.encode()).expect("what was encoded decodes");
    assert_eq!(symbols.len(), again.len());
    for symbol in symbols.iter().take(64) {
        let _ = (symbols.address(symbol.name), symbols.named(symbol.name).count());
        let _ =
            (symbols.at(symbol.address), symbols.containing(KernelVirt(symbol.address.0.wrapping_add(1))));
    }
});
