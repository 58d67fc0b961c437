//! Hashing files of any size.

use std::io::{self, ErrorKind, Read};

use xxhash_rust::xxh3::Xxh3;

/// Bytes that are held of it at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// XXH3-128 of `from` to its end.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn of(from: &mut impl Read) -> io::Result<u128> {
    let mut hash = Xxh3::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(hash.digest128()),
            Ok(bytes) => hash.update(&chunk[..bytes]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    #[test]
    fn it_is_the_hash_of_the_whole_however_much_that_is() {
        for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7] {
            let data: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            assert_eq!(of(&mut data.as_slice()).unwrap(), xxh3_128(&data), "{bytes}");
        }
    }
}
