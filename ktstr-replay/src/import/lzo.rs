//! LZO1X, of pages.
//!
//! Source: `Documentation/staging/lzo.rst` of Linux, which describes the stream; bitstream version 0, as user space writes it.

/// Decompress `from` into `to`, which it must fill; `None` where it does not.
pub(super) fn decompress(from: &[u8], to: &mut [u8]) -> Option<()> {
    let mut input = Input(from);
    let mut at = 0usize;
    // Literals that the last instruction copied: 0 to 3, or 4 for four and more.
    let mut state = 0usize;
    if let Some(&first) = from.first()
        && first > 17
    {
        input.next()?;
        let len = usize::from(first) - 17;
        at = input.literals(to, at, len)?;
        state = len.min(4);
    }
    loop {
        let tag = usize::from(input.next()?);
        // The next literals, whose number is in the two lowest bits of the last byte but that of a long distance.
        let (distance, len, then) = match tag {
            0..=15 if state == 0 => {
                let len = input.length(tag, 15)?.checked_add(3)?;
                at = input.literals(to, at, len)?;
                state = 4;
                continue;
            }
            0..=15 => {
                let far = usize::from(input.next()?) << 2 | tag >> 2;
                let (distance, len) = if state == 4 { (far + 2049, 3) } else { (far + 1, 2) };
                (distance, len, tag & 3)
            }
            16..=31 => {
                let len = input.length(tag & 7, 7)?.checked_add(2)?;
                let word = input.word()?;
                let distance = (tag & 8) << 11 | word >> 2;
                if distance == 0 {
                    // The end, which is followed by nothing.
                    return (input.0.is_empty() && len == 3 && at == to.len()).then_some(());
                }
                (distance + 16384, len, word & 3)
            }
            32..=63 => {
                let len = input.length(tag & 31, 31)?.checked_add(2)?;
                let word = input.word()?;
                ((word >> 2) + 1, len, word & 3)
            }
            64..=127 => {
                let far = usize::from(input.next()?) << 3 | tag >> 2 & 7;
                (far + 1, 3 + (tag >> 5 & 1), tag & 3)
            }
            _ => {
                let far = usize::from(input.next()?) << 3 | tag >> 2 & 7;
                (far + 1, 5 + (tag >> 5 & 3), tag & 3)
            }
        };
        copy(to, at, distance, len)?;
        at = input.literals(to, at + len, then)?;
        state = then;
    }
}

/// Copy `len` bytes to `at` from `distance` before, where the copy may read what it wrote.
pub(super) fn copy(to: &mut [u8], at: usize, distance: usize, len: usize) -> Option<()> {
    let from = at.checked_sub(distance).filter(|_| distance > 0)?;
    let part = to.get_mut(from..at.checked_add(len)?)?;
    for i in 0..len {
        let byte = *part.get(i)?;
        *part.get_mut(i + distance)? = byte;
    }
    Some(())
}

/// What is left of a stream.
struct Input<'f>(&'f [u8]);

impl Input<'_> {
    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn word(&mut self) -> Option<usize> {
        Some(usize::from(self.next()?) | usize::from(self.next()?) << 8)
    }

    /// `low` if it is not zero; else what `most` and the bytes that follow add up to.
    fn length(&mut self, low: usize, most: usize) -> Option<usize> {
        if low != 0 {
            return Some(low);
        }
        let mut len = most;
        loop {
            match self.next()? {
                0 => len = len.checked_add(255)?,
                byte => return len.checked_add(byte.into()),
            }
        }
    }

    /// Copy so many bytes to `at`; gives the place behind them.
    fn literals(&mut self, to: &mut [u8], at: usize, len: usize) -> Option<usize> {
        let (literal, rest) = self.0.split_at_checked(len)?;
        let end = at.checked_add(len)?;
        to.get_mut(at..end)?.copy_from_slice(literal);
        self.0 = rest;
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: [u8; 3] = [0b0001_0001, 0, 0];

    fn whole<const N: usize>(parts: &[&[u8]]) -> Option<[u8; N]> {
        let mut to = [0; N];
        decompress(&parts.concat(), &mut to).map(|()| to)
    }

    #[test]
    fn literals_and_copies_of_each_kind() {
        // The first byte gives four literals; three from 4 back, one literal; five from 1 back.
        let short = [21, b'a', b'b', b'c', b'd'];
        let near = [0b0100_1101, 0, b'e'];
        let long = [0b0010_0011, 0, 0];
        assert_eq!(whole(&[&short, &near, &long, &END]), Some(*b"abcdabceeeeee"));
        // A run of literals whose length goes on; the zero adds 255.
        let run: Vec<u8> = [0, 0, 2].into_iter().chain([7; 15 + 255 + 2 + 3]).collect();
        assert_eq!(whole(&[&run, &END]), Some([7; 275]));
        // Two from 1 back after one literal.
        assert_eq!(whole(&[&[18, b'x'], &[0b0000_0000, 0], &END]), Some(*b"xxx"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for parts in [
            &[&[][..]][..],
            &[&[21, b'a', b'b', b'c', b'd']],
            &[&[21, b'a', b'b'], &END],
            &[&[20, b'a', b'b', b'c'], &END],
            &[&[21, b'a', b'b', b'c', b'd'], &END, &[0]],
            &[&[18, b'a'], &[0b0100_0100, 0], &END],
            &[&[0, 0, 0, 0]],
        ] {
            assert_eq!(whole::<4>(parts), None, "{parts:?}");
        }
    }
}
