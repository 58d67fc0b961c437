//! A VM that is saved in one process and goes on in another.

use std::fs;
use std::path::Path;
use std::process::Command;

use ktstr_replay::memory::Memory;
use ktstr_replay::units::GuestPhys;
use kvm_ioctls::Kvm;

use super::check::Failure;
use super::open;
use super::state::{at_fifth_ring, rest};
use super::warm;
use crate::machine::StartKind;
use crate::machine::kvm::guests;
use crate::machine::kvm::means::Means;
use crate::machine::kvm::tiny;

/// Names the folder with the saved VM, for the second process.
const FOLDER: &str = "KTSTR_TEST_SAVED_VM";
const THIS_TEST: &str = "machine::kvm::selftest::second_process::a_saved_vm_goes_on_in_a_second_process";

#[test]
fn a_saved_vm_goes_on_in_a_second_process() {
    let kvm = match open() {
        Ok((kvm, _)) => kvm,
        Err(why) => return eprintln!("not tested: {why}"),
    };
    match std::env::var_os(FOLDER) {
        Some(folder) => second(&kvm, Path::new(&folder)).unwrap(),
        None => first(&kvm).unwrap(),
    }
}

/// Names the folder with a template, for the second process.
const WARM: &str = "KTSTR_TEST_TEMPLATE";
const WARM_TEST: &str = "machine::kvm::selftest::second_process::a_warm_start_is_one_in_a_second_process_too";

#[test]
fn a_warm_start_is_one_in_a_second_process_too() {
    if let Err(why) = open() {
        return eprintln!("not tested: {why}");
    }
    if let Some(folder) = std::env::var_os(WARM) {
        let folder = Path::new(&folder);
        let spec = warm::spec(folder).unwrap();
        let (mut machine, start) = warm::start(&spec, folder).unwrap();
        assert_eq!(start.kind, StartKind::Restored);
        return fs::write(folder.join("did"), warm::rest(&spec, &mut *machine).unwrap()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let spec = warm::spec(folder.path()).unwrap();
    let (mut machine, start) = warm::start(&spec, folder.path()).unwrap();
    assert_eq!(start.kind, StartKind::BootedAndSaved);
    let did = warm::rest(&spec, &mut *machine).unwrap();
    // Its CPUs are free again.
    drop(machine);
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", WARM_TEST, "--nocapture"])
        .env(WARM, folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(folder.path().join("did")).unwrap(), did);
}

fn first(kvm: &Kvm) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut vm = at_fifth_ring(kvm, Means::of(kvm)?)?;
    fs::write(folder.path().join("state"), vm.save(kvm)?)?;
    let mut ram = vec![0; guests::RAM_BYTES as usize];
    vm.shared.ram.read(GuestPhys(0), &mut ram)?;
    fs::write(folder.path().join("ram"), ram)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["--exact", THIS_TEST, "--nocapture"])
        .env(FOLDER, folder.path())
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let copy = fs::read_to_string(folder.path().join("rang"))?;
    let original = rest(&mut vm)?;
    assert_eq!(original.len(), 7);
    assert_eq!(copy, format!("{original:?}"));
    Ok(())
}

fn second(kvm: &Kvm, folder: &Path) -> Result<(), Failure> {
    let mut vm = tiny::bare(kvm, 1, Means::of(kvm)?)?;
    vm.shared.ram.write(GuestPhys(0), &fs::read(folder.join("ram"))?)?;
    vm.restore(&fs::read(folder.join("state"))?)?;
    fs::write(folder.join("rang"), format!("{:?}", rest(&mut vm)?))?;
    Ok(())
}
