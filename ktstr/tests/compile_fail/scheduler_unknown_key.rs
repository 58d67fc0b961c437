use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", args = ["-v"] });

fn main() {}
