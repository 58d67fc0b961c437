//! Reading and changing numbers in the kernel's memory, as the test's body asks for it.

use std::time::Duration;

use guest_init::message::{MemoryAnswer, MemoryOrder, ToGuest, WATCHDOG_TIMEOUT_MS};
use ktstr_replay::kernel::KernelView;
use ktstr_replay::kernel::query::Located;
use ktstr_replay::path::SyntaxError;
use ktstr_replay::trace::record::EventBody;
use ktstr_replay::units::KernelVirt;
use ktstr_replay::watch::WatchTarget;

use super::{Session, watchdog};
use crate::machine::GuestRam;

/// How long the guest may take to make room for an answer.
const ANSWER: Duration = Duration::from_millis(200);

impl Session<'_> {
    /// Stop the machine, do what was asked for, and say what came of it.
    pub(super) fn serve_memory(&mut self) {
        if self.memory_orders.is_empty() || !self.capturer.is_ready() {
            return;
        }
        // That it cannot be stopped is heard of as its end.
        let Ok(pause) = self.pause() else { return };
        let orders: Vec<MemoryOrder> = self.memory_orders.drain(..).collect();
        let mut answers = Vec::new();
        for order in orders {
            // What the guest stored before is not taken for what is written now.
            let (watches, _, mut stand) = self.watches();
            watches.at_stop(&mut stand);
            let done = self.work_on_memory(&order);
            if order.write.is_some() {
                let (watches, _, mut stand) = self.watches();
                watches.host_wrote(&mut stand);
            }
            answers.push(match done {
                Ok((value, told)) => {
                    self.tell(told);
                    MemoryAnswer::Value(value)
                }
                Err(why) => MemoryAnswer::Refused(why),
            });
        }
        self.go_on_after(pause);
        for answer in answers {
            self.send_or_tell(
                &ToGuest::Memory(answer),
                ANSWER,
                format_args!("the test was not told what came of its order on kernel memory"),
            );
        }
    }

    /// The number as it was, and what the trace is told. The machine is stopped.
    fn work_on_memory(&mut self, order: &MemoryOrder) -> Result<(i128, EventBody), String> {
        let profile =
            self.capturer.profile().map_err(|why| format!("the kernel could not be read: {why}"))?;
        let ram = self.machine.ram();
        let view = KernelView::new(&profile, &*ram);
        let before = match order.target.as_str() {
            WATCHDOG_TIMEOUT_MS => watchdog::work(order.write, &view, &ram)?,
            target => {
                let target: WatchTarget = target.parse().map_err(|error: SyntaxError| error.render())?;
                let place = target.find(&view).map_err(|missing| missing.why().to_owned())?;
                let before = place.read(&view).map_err(|error| error.to_string())?;
                if let Some(value) = order.write {
                    write(place, value, &view, &ram)?;
                }
                before
            }
        };
        let (name, value) = match order.write {
            Some(value) => ("write_kernel", format!("{value}, {before} before")),
            None => ("read_kernel", before.to_string()),
        };
        Ok((before, EventBody::Op { name: name.to_owned(), detail: format!("{}: {value}", order.target) }))
    }
}

/// Put a number into its place. Nothing is written unless all of it can be.
pub(super) fn write(
    place: Located,
    value: i128,
    view: &KernelView<'_>,
    ram: &GuestRam,
) -> Result<(), String> {
    let bytes = encoded(place, value)?;
    let places = (0_u64..).zip(&bytes).map(|(at, byte)| {
        let (phys, _) =
            view.place_of(KernelVirt(place.at.0.wrapping_add(at))).map_err(|error| error.to_string())?;
        Ok((phys, *byte))
    });
    let places = places.collect::<Result<Vec<_>, String>>()?;
    places.into_iter().try_for_each(|(at, byte)| ram.write(at, &[byte]).map_err(|error| error.to_string()))
}

/// The bytes of a number of the type that the kernel has there.
///
/// # Errors
/// A number that the type does not have.
fn encoded(place: Located, value: i128) -> Result<Vec<u8>, String> {
    let size = place.bytes.clamp(1, 8);
    let bits = size * 8;
    let (least, most, sort) = match place.signed {
        true => (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1, "a signed"),
        false => (0, (1_i128 << bits) - 1, "an unsigned"),
    };
    if !(least..=most).contains(&value) {
        return Err(format!(
            "{value} is no value of it: it is {sort} number of {size} bytes, {least} to {most}"
        ));
    }
    Ok(value.to_le_bytes()[..size as usize].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_as_its_type_or_refused_with_its_range() {
        let place = |bytes, signed| Located { at: KernelVirt(0), bytes, signed };
        assert_eq!(encoded(place(4, true), -2), Ok(vec![0xfe, 0xff, 0xff, 0xff]));
        assert_eq!(encoded(place(1, false), 255), Ok(vec![255]));
        assert_eq!(encoded(place(8, false), i128::from(u64::MAX)), Ok(vec![0xff; 8]));
        for (place, value, range) in [
            (place(4, false), -1, "an unsigned number of 4 bytes, 0 to 4294967295"),
            (place(1, true), 128, "a signed number of 1 bytes, -128 to 127"),
            (place(8, true), i128::from(u64::MAX), "-9223372036854775808 to 9223372036854775807"),
        ] {
            let why = encoded(place, value).expect_err("it does not fit");
            assert!(why.contains(range), "{why}");
        }
    }
}
