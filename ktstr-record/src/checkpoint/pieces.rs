//! Cutting the populated part of RAM into pieces for threads to look at.

use std::ops::Range;

use ktstr_replay::trace::record::PAGE_BYTES;

/// Frames `gfns` of RAM, which are pages `pages` when all pages of RAM are counted in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) gfns: Range<u64>,
    pub(super) pages: Range<usize>,
}

/// The frames that a range of bytes touches.
pub(super) fn gfns(bytes: &Range<u64>) -> Range<u64> {
    let page = PAGE_BYTES as u64;
    bytes.start / page..bytes.end.div_ceil(page)
}

/// The parts of `populated` (frames) that are in `ram` and not in `excluded` (frames, ascending), ascending.
pub(super) fn pieces(ram: &[Range<u64>], populated: &[Range<u64>], excluded: &[Range<u64>]) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut first_page = 0;
    let mut done = 0;
    for region in ram {
        for data in populated {
            // What overlaps what is done already is looked at once.
            let mut start = data.start.max(region.start).max(done);
            let end = data.end.min(region.end);
            let mut push = |gfns: Range<u64>| {
                if gfns.start < gfns.end {
                    let page = first_page + (gfns.start - region.start) as usize;
                    let pages = page..page + (gfns.end - gfns.start) as usize;
                    out.push(Piece { gfns, pages });
                }
            };
            for left_out in excluded {
                push(start..left_out.start.min(end));
                start = start.max(left_out.end);
            }
            push(start..end);
            done = done.max(end);
        }
        first_page += (region.end - region.start) as usize;
    }
    out
}

/// Deal the pieces out to `shares` threads in order, cutting them so that each gets about as many pages.
pub(super) fn shares(pieces: Vec<Piece>, shares: usize) -> Vec<Vec<Piece>> {
    let total: usize = pieces.iter().map(|piece| piece.pages.len()).sum();
    let share = total.div_ceil(shares.max(1)).max(1);
    let mut out: Vec<Vec<Piece>> = vec![Vec::new()];
    let mut room = share;
    for mut piece in pieces {
        while !piece.pages.is_empty() {
            if room == 0 {
                out.push(Vec::new());
                room = share;
            }
            let take = piece.pages.len().min(room);
            let (gfn, page) = (piece.gfns.start + take as u64, piece.pages.start + take);
            let head = Piece { gfns: piece.gfns.start..gfn, pages: piece.pages.start..page };
            piece = Piece { gfns: gfn..piece.gfns.end, pages: page..piece.pages.end };
            room -= take;
            if let Some(last) = out.last_mut() {
                last.push(head);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn populated_is_clipped_to_ram_and_the_channel_is_cut_out() {
        let found = pieces(&[0..100, 256..300], &[10..20, 40..60, 90..260], &[45..50, 400..401]);
        let found: Vec<_> = found.into_iter().map(|piece| (piece.gfns, piece.pages)).collect();
        assert_eq!(
            found,
            [(10..20, 10..20), (40..45, 40..45), (50..60, 50..60), (90..100, 90..100), (256..260, 100..104)]
        );
    }

    proptest! {
        #[test]
        fn shares_are_the_pieces_again(cuts in proptest::collection::btree_set(0..500u64, 0..20), n in 1..6usize) {
            let cuts: Vec<_> = cuts.into_iter().collect();
            let all: Vec<Piece> = cuts
                .chunks_exact(2)
                .map(|cut| Piece { gfns: cut[0]..cut[1], pages: cut[0] as usize..cut[1] as usize })
                .collect();
            let pages = |pieces: &[Piece]| pieces.iter().flat_map(|p| p.pages.clone()).collect::<Vec<_>>();
            let dealt = shares(all.clone(), n);
            prop_assert!(dealt.len() <= n.max(1));
            prop_assert_eq!(pages(&dealt.concat()), pages(&all));
            let sizes = dealt.iter().map(|share| pages(share).len());
            let (most, least) = (sizes.clone().max().unwrap_or(0), sizes.min().unwrap_or(0));
            prop_assert!(dealt.len() == 1 || most - least < most + 1 && most <= pages(&all).len().div_ceil(n));
        }
    }
}
