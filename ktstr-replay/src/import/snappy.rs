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
        let mut number =
            |bytes: u32| (0..bytes).try_fold(0usize, |n, i| Some(n | usize::from(*from.next()?) << (8 * i)));
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
    fn a_page_that_snappy_has_compressed_is_that_page() {
        // By `cramjam` 2, which is the Rust crate `snap`.
        const PACKED: &str = "802000000501a801040505060607080c0d0e0f1011121618191b1c1e1f2426282a2c2e303537393c3e4143494b4e515457000530fe0100 \
                          fe0100fe0100fe0100fe0100fe0100fe01001901c81535557595b5d9f91a3a5b7b9cc0e10223446586aacbed0e3051737698badcfe2042 \
                          6789abcdf012355a7d9fc2e5082b010101fe0200fe0200fe0200fe0200fe0200fe0200fe0200320200c8094989c9094c8dcd0e4e8fcf13 \
                          5495d6175899dd1e5fa1e22465aaeb2d6fb1f3357abcfe4082c5074d8fd214579add23020202fe0200fe0200fe0200fe0200fe0200fe02 \
                          00fe0200320200c81e7ede3e80e041a10262c32687e849aa0b6cd03192f355b6187cde3fa10365c72c8ef052b41679de41a30668cb2e94 \
                          f7030303fe0200fe0200fe0200fe0200fe0200fe0200fe0200320200c8129212951595169617971b9b1c9d1e9f20a425a627a82aab30b1 \
                          33b436b83a9e20a224a628aa30b235b73abc3fc548cb040404fe0200fe0200fe0200fe0200fe0200fe0200fe0200320200c806a649e989 \
                          29ca6a0bae4fef9031d27317b859fa9b3cde8224c56708aa4cf19335d7791bbd6205a74aec8f31d77a1dc0050505fe0200fe0200fe0200 \
                          fe0200fe0200fe0200fe0200320200c81bde9e5e1ede9f5f02c2834304c5864a0bcc8d4e0fd0955618d99b5c1ee3a56729ebad6f34f6b9 \
                          7b3e00c3884b0ed194060606fe0200fe0200fe0200fe0200fe0200fe0200fe0200320200c812f2d2b29272533617f7d8b8997a5e3f2001 \
                          e2c3a4886a4b2d0ef0d1b6987a5c3e2002c6a88a6d4f3214fadcbfa28568070707fe0200fe0200fe0200fe0200fe0200fe0200fe020032 \
                          0200";
        let digits: Vec<u8> = PACKED.chars().filter_map(|c| Some(c.to_digit(16)? as u8)).collect();
        let packed: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let byte = |i: usize| if i % 512 < 48 { i / 7 % 11 * 3 + ((i * i) >> 5) } else { i >> 9 };
        let page: [u8; 4096] = std::array::from_fn(|i| byte(i) as u8);
        assert_eq!(whole(&packed), Some(page));
        // Without its end it fills no page.
        assert_eq!(whole::<4096>(&packed[..packed.len() - 3]), None);
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
