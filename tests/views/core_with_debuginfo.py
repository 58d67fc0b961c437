"""Compares tasks, dispatch queues and stacks of an exported core, as drgn reads them by the kernel's DWARF, with ktstr's views.

By hand, as the debug package of a kernel is some 350 MB (docs/reading-kernels.md):

    ktstr trace export TRACE --vmcore CORE --at TAG
    ktstr replay TRACE --tasks --dsqs --stacks --at TAG --json > VIEWS.json
    python core_with_debuginfo.py CORE VMLINUX VIEWS.json
"""

import json
import sys

import drgn
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import cpu_curr, task_cpu

KERNEL_HALF = 1 << 63


def tasks(program, views):
    ours = {task["pid"]: task for task in views["tasks"]["tasks"] if task["pid"]}
    theirs = {task.pid.value_(): task for task in for_each_task(program)}
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for pid, task in theirs.items():
        our = ours[pid]
        # Fields of the kernel and of the view that are to be the same.
        pairs = {
            "comm": task.comm.string_().decode(),
            "tgid": task.tgid.value_(),
            "cpu": task_cpu(task),
            "prio": task.prio.value_(),
            "static_prio": task.static_prio.value_(),
            "nr_cpus_allowed": task.nr_cpus_allowed.value_(),
            "on_cpu": bool(task.on_cpu.value_()),
            "sum_exec_runtime_ns": task.se.sum_exec_runtime.value_(),
            "voluntary_switches": task.nvcsw.value_(),
        }
        for name, value in pairs.items():
            assert our[name] == value, f"{name} of {pid}: {our[name]}, and drgn has {value}"
        scx = {"slice_ns": "slice", "vtime": "dsq_vtime", "weight": "weight", "sticky_cpu": "sticky_cpu"}
        for name, field in scx.items():
            value = task.scx.member_(field).value_()
            assert our["scx"] is None or our["scx"][name] == value, f"scx.{field} of {pid}: {our['scx']}, {value}"
    return theirs


def queues(theirs, views):
    ours = {dsq["id"]: [task["pid"] for task in dsq["tasks"]] for dsq in views["dsqs"]["dsqs"] if dsq["tasks"]}
    found = {}
    for task in theirs.values():
        dsq = task.scx.dsq
        if not dsq or hex(dsq.id.value_()) in found:
            continue
        entries = list_for_each_entry("struct task_struct", dsq.list.address_of_(), "scx.dsq_list.node")
        found[hex(dsq.id.value_())] = [entry.pid.value_() for entry in entries]
    assert ours == found, f"{ours}, and drgn has {found}"
    return found


def stacks(program, theirs, views):
    compared = frames = 0
    for stack in views["stacks"]["tasks"]:
        if stack["pid"] == 0:
            if stack["running_on"] is None:
                continue
            task = cpu_curr(program, stack["running_on"])
        else:
            task = theirs[stack["pid"]]
        ours = [int(frame["ip"], 16) for frame in stack["frames"]]
        trace = [frame for frame in program.stack_trace(task) if not frame.is_inline]
        trace = [frame.pc for frame in trace if frame.pc >= KERNEL_HALF]
        # The label of the return to user space has two names; the address is one.
        assert ours == trace, f"stack of {stack['pid']}: {[hex(at) for at in ours]}, {[hex(at) for at in trace]}"
        compared += 1
        frames += len(ours)
    return compared, frames


def main(core, vmlinux, views):
    program = drgn.Program()
    program.set_core_dump(core)
    program.load_debug_info([vmlinux])
    views = views["views"]
    theirs = tasks(program, views)
    found = queues(theirs, views)
    compared, frames = stacks(program, theirs, views)
    print(f"same: {len(theirs)} tasks, {sum(map(len, found.values()))} of them in {len(found)} queues, {compared} stacks of {frames} frames")


with open(sys.argv[3]) as file:
    main(sys.argv[1], sys.argv[2], json.load(file))
