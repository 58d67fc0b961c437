//! Snappy's raw format, of pages. Source: `format_description.txt` of Snappy.

/// Decompress `from` into `to`, which it must fill; `None` where it does not.
pub(super) fn decompress(from: &[u8], to: &mut [u8]) -> Option<()> {
    let mut from = from.iter();
    let mut len = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *from.next()?;
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if len != to.len() as u64 {
        return None;
    }
    let mut at = 0usize;
    while let Some(&tag) = from.next() {
        let mut number = |bytes: u32| (0..bytes).try_fold(0usize, |n, i| Some(n | usize::from(*from.next()?) << (8 * i)));
        let upper = usize::from(tag >> 2);
        let (distance, len) = match tag & 3 {
            0 => {
                let len = if upper < 60 { upper } else { number(upper as u32 - 59)? };
                (None, len.checked_add(1)?)
            }
            1 => (Some((upper >> 3) << 8 | number(1)?), (upper & 7) + 4),
            2 => (Some(number(2)?), upper + 1),
            _ => (Some(number(4)?), upper + 1),
        };
        let end = at.checked_add(len)?;
        match distance {
            None => {
                let (literal, rest) = from.as_slice().split_at_checked(len)?;
                to.get_mut(at..end)?.copy_from_slice(literal);
                from = rest.iter();
            }
            Some(distance) => super::lzo::copy(to, at, distance, len)?,
        }
        at = end;
    }
    (at == to.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole<const N: usize>(from: &[u8]) -> Option<[u8; N]> {
        let mut to = [0; N];
        decompress(from, &mut to).map(|()| to)
    }

    #[test]
    fn literals_and_copies_of_each_kind() {
        // 3 literals, then 4 from 3 back (one byte of distance), then 5 from 2 back (two bytes).
        let packed = [12, 0b0000_1000, b'a', b'b', b'c', 0b0000_0001, 3, 0b0001_0010, 2, 0];
        assert_eq!(whole(&packed), Some(*b"abcabcacacac"));
        // Four bytes of distance; a literal whose length follows.
        let packed = [4, 0b1111_0000, 1, b'x', b'y', 0b0000_0111, 2, 0, 0, 0];
        assert_eq!(whole(&packed), Some(*b"xyxy"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for packed in [
            &[][..],
            &[4],
            &[3, 0b0000_1000, b'a', b'b'],
            &[3, 0b0000_1000, b'a', b'b', b'c', 0],
            &[4, 0b0000_0000, b'a', 0b0000_1001, 2],
            &[4, 0b0000_0000, b'a', 0b0000_1001, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(whole::<4>(packed), None, "{packed:?}");
        }
    }
}
