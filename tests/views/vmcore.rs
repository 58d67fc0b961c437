//! An exported core in tools that we did not write: drgn finds the same symbols, bytes and registers in it, and `readelf` the
//! notes and segments.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ktstr::prelude::*;
use ktstr_replay::export::vmcore::write_vmcore;
use ktstr_replay::kernel::task::read_tasks;
use ktstr_replay::memory::Memory;
use ktstr_replay::run::Run;
use ktstr_replay::run::{Checkpoints, OpenCheckpoint};
use ktstr_replay::trace::record::{PAGE_BYTES, VcpuRegs};
use ktstr_replay::units::{GuestPhys, KernelVirt};
use ktstr_tests::{python, run_bounded};
use serde_json::{Value, json};

declare_scheduler!(DEMO, { name = "demo", source = "scx_demo", topology = (1, 1, 2, 1) });

const LIMIT: Duration = Duration::from_secs(120);
/// One symbol of so many is compared.
const SYMBOLS_STEP: usize = 61;
/// One page of so many is compared.
const PAGES_STEP: usize = 23;
/// One page of so many that were left out is asked for. Pages are counted, not ranges: how many ranges the page cache
/// and the free memory fall into is the guest's business.
const ABSENT_STEP: usize = 61;

#[ktstr_test(scheduler = DEMO, duration_s = 1, checkpoint = "every", check = tools_agree)]
fn drgn_reads_an_exported_core(ctx: &Ctx) -> Result<AssertResult> {
    let result = execute_defs(ctx, vec![ctx.cgroup_def("cg_0")])?;
    ctx.capture_snapshot("now")?;
    Ok(result)
}

fn tools_agree(trace: &Trace, v: &mut Verdict) -> Result<()> {
    let run = Run::load(trace);
    let checkpoints = Checkpoints::of(&run)?;
    let checkpoint = checkpoints.at(Some("now"))?;
    let folder = tempfile::tempdir()?;
    let core = folder.path().join("vmcore");
    let written = write_vmcore(&checkpoint, &core)?;
    readelf(&core, written.vcpus)?;

    let expected = folder.path().join("expected.json");
    std::fs::write(&expected, expect(&checkpoint)?.to_string())?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("views/core_in_drgn.py");
    let ended = run_bounded(python().arg(script).arg(&core).arg(&expected), LIMIT);
    ensure!(ended.status.success(), "{ended}");
    let compared: Value = serde_json::from_str(&ended.stdout).with_context(|| ended.to_string())?;
    let number = |what: &str| compared[what].as_u64().with_context(|| format!("no {what} in {compared}"));
    v.check("symbols that drgn has at the same address", number("symbols")?).at_least(2500);
    v.check("kernel objects with the same bytes", number("virtual")?).at_least(50);
    v.check("pages with the same bytes", number("physical")?).at_least(300);
    v.check("pages that drgn is told are absent", number("absent")?).at_least(100);
    v.check("vCPUs with the same registers", number("vcpus")?).eq(2);
    Ok(())
}

/// binutils finds no fault in the headers, and the notes that a core of this kernel is to have.
fn readelf(core: &Path, vcpus: usize) -> Result<()> {
    let ended = run_bounded(Command::new("readelf").args(["-hnlW"]).arg(core), LIMIT);
    ensure!(ended.status.success() && ended.stderr.is_empty(), "{ended}");
    let notes = |what: &str| ended.stdout.lines().filter(|line| line.contains(what)).count();
    ensure!(
        notes("NT_PRSTATUS") == vcpus && notes("  QEMU ") == vcpus && notes("  VMCOREINFO ") == 1,
        "{ended}"
    );
    ensure!(notes("CORE (Core file)") >= 1 && notes("  LOAD ") >= 2, "{ended}");
    Ok(())
}

/// What we have of the stop that drgn is to find.
fn expect(checkpoint: &OpenCheckpoint<'_>) -> Result<Value> {
    let kernel = checkpoint.kernel();
    let symbols = kernel.profile().symbols();
    let some = symbols.iter().step_by(SYMBOLS_STEP).map(|symbol| json!([symbol.name, symbol.address.0]));
    let named = ["init_task", "linux_banner", "jiffies_64", "scx_root", "runqueues"];
    let named = named.map(|name| symbols.address(name).map(|at| json!([name, at.0])));
    // The image, vmalloc memory (stacks) and the direct map (tasks) are three kinds of mappings.
    let mut virt = Vec::new();
    let mut object = |at: KernelVirt, len: usize| -> Result<()> {
        virt.push(json!([at.0, hex(&kernel.bytes(at, len)?)]));
        Ok(())
    };
    object(symbols.address("linux_banner").context("a banner")?, 64)?;
    object(symbols.address("init_task").context("init_task")?, 512)?;
    for task in read_tasks(&kernel)?.tasks {
        object(task.at, 512)?;
        let stack = kernel.offset_of("task_struct", "stack")?;
        let stack = kernel.pointer(KernelVirt(task.at.0 + stack))?.context("a stack")?;
        object(KernelVirt(stack.0 + 0x3000), 64)?;
    }
    let memory = checkpoint.memory();
    let left_out = memory.left_out();
    let absent = left_out.iter().flat_map(|(gfns, _)| gfns.clone()).step_by(ABSENT_STEP);
    let absent: Vec<u64> = absent.map(|gfn| gfn * PAGE_BYTES as u64).collect();
    let all = memory.populated().into_iter().flat_map(|range| range.step_by(PAGE_BYTES));
    let mut physical = Vec::new();
    let mut page = vec![0; PAGE_BYTES];
    for at in all.step_by(PAGES_STEP) {
        if memory.read(GuestPhys(at), &mut page).is_ok() {
            physical.push(json!([at, hex(&page[..256])]));
        }
    }
    Ok(json!({
        "release": kernel.profile().release(),
        "count": symbols.len(),
        "symbols": some.chain(named.into_iter().flatten()).collect::<Vec<_>>(),
        "virtual": virt,
        "physical": physical,
        "absent": absent,
        "vcpus": checkpoint.vcpus().iter().map(registers).collect::<Vec<_>>(),
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn registers(regs: &VcpuRegs) -> Value {
    let names = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"];
    let mut all: serde_json::Map<String, Value> =
        names.iter().zip(regs.gpr).map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    all.extend((8..16).map(|n| (format!("r{n}"), json!(regs.gpr[n]))));
    all.insert("rip".to_owned(), json!(regs.rip));
    all.insert("eflags".to_owned(), json!(regs.rflags));
    all.insert("gs_base".to_owned(), json!(regs.gs_base));
    Value::Object(all)
}
