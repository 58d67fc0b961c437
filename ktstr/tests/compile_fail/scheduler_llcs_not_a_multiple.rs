use ktstr::prelude::*;

declare_scheduler!(DEMO, { name = "demo", binary = "scx_demo", topology = (2, 3, 1, 1) });

fn main() {}
