"""Opens a core in drgn, without flags or debug information, and compares it with what ktstr says is in it.

usage: core_in_drgn.py CORE EXPECTED.json; prints how much was compared as JSON, or fails with the first difference.
"""

import json
import struct
import sys

import drgn
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

# `struct user_regs_struct` of x86-64, which begins at byte 112 of `struct elf_prstatus`: <sys/user.h>, <sys/procfs.h>.
REGISTERS = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs"
).split()
NT_PRSTATUS = 1


def prstatus(path):
    """The registers in each NT_PRSTATUS of a core."""
    with open(path, "rb") as core:
        header = core.read(64)
        phoff, phentsize, phnum = struct.unpack_from("<Q", header, 32) + struct.unpack_from("<HH", header, 54)
        for n in range(phnum):
            core.seek(phoff + n * phentsize)
            kind, _, offset, _, _, size = struct.unpack("<IIQQQQ", core.read(40))
            if kind != 4:
                continue
            core.seek(offset)
            notes = core.read(size)
            at = 0
            while at < len(notes):
                namesz, descsz, what = struct.unpack_from("<III", notes, at)
                name = at + 12
                desc = name + (namesz + 3) // 4 * 4
                if what == NT_PRSTATUS and notes[name : name + 5] == b"CORE\0":
                    yield dict(zip(REGISTERS, struct.unpack_from("<27Q", notes, desc + 112)))
                at = desc + (descsz + 3) // 4 * 4


def main(core, expected):
    program = drgn.Program()
    program.set_core_dump(core)
    assert program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL, program.flags
    assert program.platform.arch == drgn.Architecture.X86_64, program.platform

    # drgn's own decoder of kallsyms, out of the core's memory, found by its VMCOREINFO.
    index = load_vmlinux_kallsyms(program)
    program.register_symbol_finder("kallsyms", index, enable_index=0)
    count = len(program.symbols())
    assert count == expected["count"], f"{count} symbols, not {expected['count']}"
    for name, address in expected["symbols"]:
        found = [symbol.address for symbol in program.symbols(name)]
        assert address in found, f"{name}: {address:#x}, not in {[hex(at) for at in found]}"

    banner = program.symbol("linux_banner").address
    banner = program.read_c_string(banner).decode()
    assert banner.startswith(f"Linux version {expected['release']} "), banner
    for address, data in expected["virtual"]:
        found = program.read(address, len(data) // 2).hex()
        assert found == data, f"bytes at {address:#x}: {found}, not {data}"
    for address, data in expected["physical"]:
        found = program.read(address, len(data) // 2, physical=True).hex()
        assert found == data, f"bytes at physical {address:#x}: {found}, not {data}"
    for address in expected["absent"]:
        try:
            program.read(address, 8, physical=True)
        except drgn.FaultError:
            continue
        raise AssertionError(f"physical {address:#x} reads, and the checkpoint does not have it")

    vcpus = list(prstatus(core))
    assert len(vcpus) == len(expected["vcpus"]), vcpus
    for found, registers in zip(vcpus, expected["vcpus"]):
        for name, value in registers.items():
            assert found[name] == value, f"{name}: {found[name]:#x}, not {value:#x}"
    compared = {key: len(expected[key]) for key in ("symbols", "virtual", "physical", "absent", "vcpus")}
    print(json.dumps(compared))


with open(sys.argv[2]) as file:
    main(sys.argv[1], json.load(file))
