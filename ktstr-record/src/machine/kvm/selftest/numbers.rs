//! How long things take.

use std::time::{Duration, Instant};

use kvm_ioctls::Kvm;

use super::check::{Checked, Failure, ensure, next};
use super::state::copy_ram;
use crate::machine::kvm::guests;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::tiny;
use crate::machine::kvm::vm::VmEvent;

/// How often each is measured.
const ROUNDS: usize = 200;

/// The median, the 90th and 99th of a hundred, and the longest.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        times
            .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    format!(
        "p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, longest {:.1?} of {}",
        at(50),
        at(90),
        at(99),
        at(100),
        times.len()
    )
}

pub(super) fn creation(kvm: &Kvm, means: Means) -> Checked {
    let mut times = Vec::new();
    for _ in 0..ROUNDS / 10 {
        let begun = Instant::now();
        let mut vm = tiny::vm(kvm, guests::sequence(), 2, means)?;
        let event = next(&mut vm)?;
        times.push(begun.elapsed());
        ensure!(matches!(event, VmEvent::Rang { .. }), "{event:?}");
    }
    Ok(format!("{} (2 vCPUs, to the first ring)", spread(times)))
}

pub(super) fn pause(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::spin(), 2, means)?;
    let (mut stops, mut resumes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        vm.resume()?;
        resumes.push(begun.elapsed());
        ensure!(vm.wait(Duration::from_millis(1))?.is_none(), "something happened");
        let begun = Instant::now();
        vm.pause()?;
        stops.push(begun.elapsed());
    }
    Ok(format!("stop {}; resume {}", spread(stops), spread(resumes)))
}

pub(super) fn save_and_restore(kvm: &Kvm, means: Means) -> Checked {
    let mut vm = tiny::vm(kvm, guests::spin(), 2, means)?;
    vm.resume()?;
    ensure!(vm.wait(Duration::from_millis(1))?.is_none(), "something happened");
    vm.pause()?;
    let (mut saves, mut restores) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS / 10 {
        let begun = Instant::now();
        let state = vm.save(kvm)?;
        saves.push(begun.elapsed());
        let begun = Instant::now();
        let mut second = tiny::bare(kvm, 2, means)?;
        copy_ram(&vm, &second)?;
        second.restore(&state)?;
        restores.push(begun.elapsed());
        let same = second.registers()? == vm.registers()?;
        same.then_some(()).ok_or_else(|| Failure::from("registers differ".to_owned()))?;
    }
    Ok(format!("save {}; new VM and restore {}", spread(saves), spread(restores)))
}
