use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", topology = (1, 1, 0, 1) });

fn main() {}
