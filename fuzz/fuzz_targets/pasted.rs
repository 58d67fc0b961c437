//! Pasted text: dumps and ends of schedulers are found in it, explained and rendered.
#![no_main]

use ktstr_replay::pasted::read_pasted;
use ktstr_replay::why::explain_pasted;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for end in read_pasted(&String::from_utf8_lossy(bytes)).ends {
        assert!(!explain_pasted(&end).render().is_empty());
    }
});
