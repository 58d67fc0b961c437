//! Devices on ports: whatever a guest writes and reads, of whatever width, costs bounded memory and time, and what is saved after it
//! is restored.

#![no_main]

use libfuzzer_sys::fuzz_target;

// The file itself: the crate around it would bring a nested build and a hundred dependencies.
#[path = "../../ktstr-record/src/machine/kvm/ports.rs"]
mod ports;

fuzz_target!(|data: &[u8]| {
    let Ok((mut devices, line)) = ports::Ports::new() else { return };
    let mut said = 0;
    // Each access: port, kind and width, and the bytes of a write.
    let mut rest = data;
    while let Some((&[low, high, kind], after)) = rest.split_first_chunk::<3>() {
        let (port, width) = (u16::from_le_bytes([low, high]), usize::from(kind & 0xf));
        let (bytes, after) = after.split_at(width.min(after.len()));
        rest = after;
        if kind & 0x10 == 0 {
            devices.write(port, bytes);
            said += bytes.len();
        } else {
            let mut read = vec![0; width];
            devices.read(port, &mut read);
        }
        if kind & 0x20 != 0 {
            let saved = devices.save();
            devices.restore(saved).expect("a state that was saved");
            said = 0;
        }
    }
    assert!(devices.console().len() <= said, "the console has more than was written");
    // Nobody is made to wait for the interrupt's line.
    let _ = (ports::COM1_GSI, line.read());
});
