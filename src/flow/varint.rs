//! Integers with seven bits in each byte, lowest first. The highest bit of a byte states whether
//! another byte follows (LEB128).

/// The number of bytes that are read at once.
const WORD: usize = size_of::<u64>();

/// The bit of each byte of a word that states whether another byte follows.
const CONTINUES: u64 = 0x8080_8080_8080_8080;

/// Appends an integer to `bytes`.
pub(super) fn append_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads an integer from the start of `bytes` and removes it there. Returns `None` if the bytes end
/// before, if the integer takes more bytes than necessary, or if it has more than 64 bits.
#[inline(always)]
pub(super) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    match *bytes {
        // Most integers take one or two bytes.
        [byte, rest @ ..] if *byte < 0x80 => {
            *bytes = rest;
            Some(u64::from(*byte))
        }
        [first, byte @ 1..=0x7f, rest @ ..] => {
            *bytes = rest;
            Some(u64::from(*first & 0x7f) | u64::from(*byte) << 7)
        }
        _ => take_longer_number(bytes),
    }
}

fn take_longer_number(bytes: &mut &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(match bytes.first_chunk() {
        Some(start) => *start,
        None => {
            let mut start = [0; WORD];
            start[..bytes.len()].copy_from_slice(bytes);
            start
        }
    });
    let ends = !word & CONTINUES;
    if ends == 0 {
        return take_longest_number(bytes, join_sevens(word));
    }
    let length = ends.trailing_zeros() as usize / 8 + 1;
    let word = word & u64::MAX >> (8 * (WORD - length));
    // A last byte of zero would be unnecessary. It is zero, too, if the bytes end before.
    if word >> (8 * (length - 1)) == 0 {
        return None;
    }
    *bytes = bytes.get(length..)?;
    Some(join_sevens(word))
}

/// Reads an integer whose first eight bytes contain `lowest`, its lowest 56 bits.
fn take_longest_number(bytes: &mut &[u8], lowest: u64) -> Option<u64> {
    let (highest, length) = match bytes.get(WORD..)? {
        [byte @ 1..=0x7f, ..] => (u64::from(*byte), WORD + 1),
        // The tenth byte can only contain the highest bit.
        [byte @ 0x80..=0xff, 1, ..] => (u64::from(*byte & 0x7f) | 0x80, WORD + 2),
        _ => return None,
    };
    *bytes = &bytes[length..];
    Some(lowest | highest << 56)
}

/// Joins the lowest seven bits of each byte of a word.
fn join_sevens(word: u64) -> u64 {
    let word = word & !CONTINUES;
    let word = word & 0x00ff_00ff_00ff_00ff | (word & 0xff00_ff00_ff00_ff00) >> 1;
    let word = word & 0x0000_ffff_0000_ffff | (word & 0xffff_0000_ffff_0000) >> 2;
    word & 0x0000_0000_ffff_ffff | (word & 0xffff_ffff_0000_0000) >> 4
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        append_number(&mut bytes, number);
        bytes
    }

    #[test]
    fn an_integer_has_only_one_form() {
        let edges = (0..64)
            .flat_map(|bits| [-1, 0, 1].map(|more| (1_u64 << bits).wrapping_add_signed(more)));
        for number in edges.chain([u64::MAX]) {
            let bytes = written(number);
            assert_eq!(postcard::to_stdvec(&number).unwrap(), bytes);
            for rest in [&[][..], &[7], &[0x80; 12]] {
                let all = [&bytes, rest].concat();
                let mut left = all.as_slice();
                assert_eq!((take_number(&mut left), left), (Some(number), rest), "{number}");
            }
            assert_eq!(take_number(&mut &bytes[..bytes.len() - 1]), None, "{number}");
            let mut longer = bytes;
            *longer.last_mut().unwrap() |= 0x80;
            longer.push(0);
            assert_eq!(take_number(&mut longer.as_slice()), None, "{number}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_the_form_of_the_integer_or_of_none(
            bytes in prop::collection::vec(prop_oneof![Just(0x80_u8), Just(0xff), any::<u8>()], 0..14)
        ) {
            let mut left = bytes.as_slice();
            match take_number(&mut left) {
                Some(number) => prop_assert_eq!([&written(number), left].concat(), bytes),
                None => prop_assert_eq!(left, bytes.as_slice()),
            }
        }
    }
}
