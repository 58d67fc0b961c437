//! `#[ktstr_test]` and `declare_scheduler!`.
