//! The first bytes of a side of a connection, as pieces that merge: a message that names the server may
//! span several segments, and several workers may hold them.

use serde::{Deserialize, Serialize};

use super::{Hello, http, tls};
use crate::model::{Merge, Nanos, SECOND};

/// Bytes that are kept of a side.
const KEPT: usize = 4096;

/// How long after its first packet a side is young, in nanoseconds: what comes later starts nothing.
const YOUNG: Nanos = 3 * SECOND;

/// Data segments of the first flight of a side: those that acknowledge least, and of these the earliest,
/// as many as hold 4 KiB. Which they are does not depend on the order of arrival, nor on where they are
/// gathered: a segment that is left out anywhere would be left out of the whole.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pieces {
    /// What the flight acknowledges. A client that waits for the server's answer has seen nothing of it.
    acked: u32,
    /// In the order of their times.
    list: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Piece {
    time: Nanos,
    seq: u32,
    bytes: Box<[u8]>,
}

impl Pieces {
    /// Whether a packet comes early enough on a side whose first packet came at `first`.
    pub fn is_young(time: Nanos, first: Nanos) -> bool {
        time.saturating_sub(first) <= YOUNG
    }

    /// Takes in a data segment of a side whose first packet came at `first`, as far as is known here.
    pub fn see(&mut self, first: Nanos, time: Nanos, seq: u32, acked: u32, bytes: &[u8]) {
        // The side's true first packet came no later, and so the segment is not young there either.
        if !Self::is_young(time, first) || (!self.list.is_empty() && acked > self.acked) {
            return;
        }
        if acked < self.acked {
            self.list.clear();
        }
        self.acked = acked;
        self.add(Piece { time, seq, bytes: bytes.into() });
        self.trim();
    }

    /// Of the same bytes at the same place the earliest sight counts.
    fn add(&mut self, piece: Piece) {
        let same = |p: &Piece| (p.seq, &p.bytes) == (piece.seq, &piece.bytes);
        match self.list.iter_mut().find(|p| same(p)) {
            Some(known) => known.time = known.time.min(piece.time),
            None => self.list.push(piece),
        }
    }

    fn trim(&mut self) {
        self.list.sort_unstable();
        let mut before = 0;
        self.list.retain(|piece| {
            let fits = before < KEPT;
            before += piece.bytes.len();
            fits
        });
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of memory that the pieces hold, about.
    pub fn memory(&self) -> usize {
        self.list.iter().map(|p| p.bytes.len() + size_of::<Piece>()).sum()
    }

    /// What the pieces together say of the server's name, on a side whose first packet came at `first`.
    pub fn hello(&self, first: Nanos) -> Option<Hello> {
        let starts =
            |bytes: &[u8]| matches!(bytes, [0x16, 0x03, _, _, _, 1, ..]) || http::is_request(bytes);
        let young = || self.list.iter().filter(|piece| Self::is_young(piece.time, first));
        let start = young().find(|piece| starts(&piece.bytes))?;
        let mut bytes = Vec::new();
        // Each pass adds what continues the bytes so far; of several the earliest.
        while bytes.len() < KEPT {
            let at = |p: &&Piece| {
                let skip = bytes.len().checked_sub(p.seq.wrapping_sub(start.seq) as usize);
                skip.filter(|skip| *skip < p.bytes.len()).is_some()
            };
            let Some(next) = (if bytes.is_empty() { Some(start) } else { young().find(at) }) else {
                break;
            };
            let skip = bytes.len() - next.seq.wrapping_sub(start.seq) as usize;
            bytes.extend_from_slice(&next.bytes[skip..]);
        }
        match http::is_request(&bytes) {
            true => http::host(&bytes),
            false => tls::hello(&bytes),
        }
    }
}

impl Merge for Pieces {
    fn merge(&mut self, other: &Self) {
        if other.list.is_empty() || (!self.list.is_empty() && self.acked < other.acked) {
            return;
        }
        if self.list.is_empty() || other.acked < self.acked {
            self.clone_from(other);
            return;
        }
        other.list.iter().for_each(|piece| self.add(piece.clone()));
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nAccept: */*\r\nHost: www.example.com\r\n\r\n";

    #[test]
    fn pieces_join_in_any_order() {
        let mut forth = Pieces::default();
        let mut back = Pieces::default();
        let parts = [(10, 0, 20), (11, 20, 40), (12, 40, REQUEST.len())];
        for (time, from, to) in parts {
            forth.see(9, time, 1000 + from as u32, 7, &REQUEST[from..to]);
        }
        for (time, from, to) in parts.into_iter().rev() {
            let mut one = Pieces::default();
            one.see(time, time, 1000 + from as u32, 7, &REQUEST[from..to]);
            back.merge(&one);
        }
        assert_eq!(forth, back);
        assert_eq!(forth.hello(9).unwrap().name, "www.example.com");
    }

    #[test]
    fn a_gap_is_no_name_and_numbers_may_wrap() {
        let mut pieces = Pieces::default();
        let seq = u32::MAX - 10;
        pieces.see(0, 1, seq, 7, &REQUEST[..20]);
        pieces.see(0, 2, seq.wrapping_add(30), 7, &REQUEST[30..]);
        assert_eq!(pieces.hello(0), None);
        pieces.see(0, 3, seq.wrapping_add(15), 7, &REQUEST[15..35]);
        assert_eq!(pieces.hello(0).unwrap().name, "www.example.com");
        // Later flights and old sides are left out.
        pieces.see(0, 4, 5, 8, b"x");
        pieces.see(0, YOUNG + 1, 5, 7, b"x");
        assert_eq!(pieces.list.len(), 3);
    }
}
