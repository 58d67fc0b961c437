//! What `declare_scheduler!` refuses.

fn main() {}

mod without_name {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { binary = "scx_demo" });
//                     ^^^^ key `name` is missing: what reports call the scheduler
}

mod without_program {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo" });
//                     ^^^^ no program: give one of `binary`, `binary_path`, `source`, `crates`, or `enable` and `disable` for a scheduler that is part of the kernel
}

mod with_two_programs {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", source = "scx_demo" });
//                                                                 ^^^^^^ key `source` contradicts `binary`: give one of `binary`, `binary_path`, `source`, `crates`
}

mod crate_without_version {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", crates = "scx_demo" });
//                                                     ^^^^^^^^^^ `crates` = "scx_demo" names no version of a package: it has no `@`; write it as "scx_lavd@1.1.4"
}

mod unknown_key {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", args = ["-v"] });
//                                                                 ^^^^ unknown key `args`; did you mean `sched_args`? the keys are name, binary, binary_path, source, crates, enable, disable, sched_args, topology, kargs, sysctls, config_file, config_file_def, cgroup_parent, enable_timeout_s, assert, constraints, kernels
}

mod key_twice {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", name = "demo", binary = "scx_demo" });
//                                            ^^^^ key `name` is given twice
}

mod name_with_blank {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "my demo", binary = "scx_demo" });
//                                    ^^^^^^^^^ `name` = "my demo" must be made of ASCII letters, digits, `_`, `-` and `.`
}

mod named_eevdf {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "eevdf", binary = "scx_demo" });
//                                    ^^^^^^^ `name` = "eevdf" is reserved: a test without `scheduler` runs under the kernel's own
}

mod topology_of_three {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", topology = (1, 1, 2) });
//                                                                 ^^^^^^^^^^^^^^^^^^^^ `topology` takes (numa_nodes, llcs, cores, threads)
}

mod llcs_not_a_multiple {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", topology = (2, 3, 1, 1) });
//                                                                 ^^^^^^^^ `topology` has 3 LLCs in all, which is not a multiple of its 2 NUMA nodes
}

mod zero_dimension {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", topology = (1, 1, 0, 1) });
//                                                                 ^^^^^^^^^^^^^^^^^^^^^^^ `topology` has a 0; each of (numa_nodes, llcs, cores, threads) must be at least 1
}

mod config_file_twice {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", config_file = "c", config_file_def = ("-c {file}", "/etc/c") });
//                                                                                    ^^^^^^^^^^^^^^^ `config_file_def` contradicts `config_file`: the one is the same for all tests, the other is given by each
}

mod config_file_def_without_its_place {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", config_file_def = ("-c", "/etc/c") });
//                                                                 ^^^^^^^^^^^^^^^ `config_file_def` has no `{file}` in its arguments, for the path: write it as ("--config {file}", "/etc/mine.json")
}

mod config_file_def_of_a_relative_path {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", config_file_def = ("-c {file}", "etc/c") });
//                                                                 ^^^^^^^^^^^^^^^ `config_file_def` has a path in the guest that is no absolute path of a file
}

mod config_file_def_of_one {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", config_file_def = ("-c {file}") });
//                                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `config_file_def` takes two strings, `("..", "..")`
}

mod sysctl_without_a_value {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", sysctls = ["kernel.pid_max"] });
//                                                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ `sysctls` has "kernel.pid_max", which is not of the form "NAME=VALUE"
}

mod kernels_without_range {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", kernels = "7.1" });
//                                                                           ^^^^^ `kernels` = "7.1" is no range of kernels: it has no `..`; write it as "7.1..", "..7.2" or "7.0..7.2"
}

mod kernels_the_wrong_way_round {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", kernels = "7.3..7.1" });
//                                                                           ^^^^^^^^^^ `kernels` = "7.3..7.1" is no range of kernels: it is the wrong way round; write it as "7.1..", "..7.2" or "7.0..7.2"
}

mod enable_without_disable {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", enable = ["echo 1 > /sys/x"] });
//                                            ^^^^^^ `enable` needs `disable`, with the lines that undo it
}

mod disable_without_enable {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", disable = ["echo 1 > /sys/x"] });
//                                                                 ^^^^^^^ `disable` needs `enable`: without it there is nothing to undo
}

mod line_of_a_shell {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", enable = ["echo $(nproc) > /sys/x"], disable = ["echo 1 > /sys/x"] });
//                                                      ^^^^^^^^^^^^^^^^^^^^^^^^ `enable` has "echo $(nproc) > /sys/x": no shell runs it, so that nothing is expanded and nothing follows; write it as "echo VALUE > /path"
}

mod line_that_is_no_echo {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", enable = ["echo 1 > /sys/x"], disable = ["rm /sys/x"] });
//                                                                                     ^^^^^^^^^^^ `disable` has "rm /sys/x": it is no `echo` into a file; write it as "echo VALUE > /path"
}

mod arguments_without_a_program {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", enable = ["echo 1 > /sys/x"], disable = ["echo 0 > /sys/x"], sched_args = ["-v"] });
//                                                                                                         ^^^^^^^^^^ `sched_args` needs a program: give one of `binary`, `binary_path`, `source`, `crates`
}

mod binary_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "" });
//                                            ^^^^^^ `binary` is empty
}

mod binary_path_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary_path = "" });
//                                            ^^^^^^^^^^^ `binary_path` is empty
}

mod source_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", source = "" });
//                                            ^^^^^^ `source` is empty
}

mod crates_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", crates = "" });
//                                            ^^^^^^ `crates` is empty
}

mod config_file_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", config_file = "" });
//                                                                 ^^^^^^^^^^^ `config_file` is empty
}

mod cgroup_parent_empty {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", cgroup_parent = "" });
//                                                                 ^^^^^^^^^^^^^ `cgroup_parent` is empty, which is where cgroups are anyway
}

mod cgroup_parent_that_climbs {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", cgroup_parent = "../a" });
//                                                                                 ^^^^^^ `cgroup_parent` = "../a" is no path of a cgroup; write it as "workload.slice/tests"
}

mod no_time_to_become_enabled {
    use ktstr::prelude::*;

    declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", enable_timeout_s = 0 });
//                                                                 ^^^^^^^^^^^^^^^^^^^^ `enable_timeout_s` is 0; it must be at least 1 s until it is enabled
}
