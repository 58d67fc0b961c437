//! The scheduler scx_mine, which is in the folder of that name, and its tests, which are in `tests/`.
