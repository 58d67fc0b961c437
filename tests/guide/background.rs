#[ktstr_test(
    scheduler = SCX_MINE,
    duration_s = 8,
    num_snapshots = 10,
    max_gap_ms = 2000,
    claims = ["final(nr_background >= 1)"]
)]
fn background_is_served(ctx: &Ctx) -> Result<AssertResult> {
    execute_defs(ctx, vec![
        CgroupDef::named("foreground").workers(4).comm("foreground"),
        CgroupDef::named("background").workers(2).comm("background").nice(10),
    ])
}
