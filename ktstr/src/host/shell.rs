//! Paths in commands that people copy.

use std::path::Path;

/// A path as a shell takes it, quoted where it has to be.
pub fn for_shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    // Only a text with a NUL cannot be quoted, which no path has.
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |quoted| quoted.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_would_take_them_apart() {
        let quoted = |text: &str| for_shell(Path::new(text));
        assert_eq!(quoted("target/ktstr/a-b.trace.zst"), "target/ktstr/a-b.trace.zst");
        for odd in ["a b", "it's", "$HOME", "a;b", "\u{2603} x", "`id`", "!x", "-"] {
            let output =
                std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", quoted(odd))).output();
            assert_eq!(output.expect("a shell").stdout, odd.as_bytes(), "{}", quoted(odd));
        }
    }
}
