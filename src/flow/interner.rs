//! The links that packets came over, each with a number: sides of flows hold the number.
//!
//! One book gives the numbers to all workers of a run, so that equal numbers are equal links wherever tables
//! meet. Each worker copies what it has met; the book is asked once a worker and link.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::HashSeed;
use crate::decode::Encapsulation;

/// A side's link number: none seen yet.
pub(super) const NO_LINK: u16 = 0;
/// A side's link number: look into the side table, which then holds all links of the side.
pub(super) const MANY_LINKS: u16 = u16::MAX;

/// Who gives the numbers.
#[derive(Default)]
pub(super) struct Interner(Mutex<InternedLinks>);

#[derive(Default)]
struct InternedLinks {
    /// By number less one.
    list: Vec<Encapsulation>,
    numbers: HashMap<Encapsulation, u16, HashSeed>,
}

impl Interner {
    fn lock(&self) -> MutexGuard<'_, InternedLinks> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives these links their old numbers, before any other. What an attempt before left is forgotten.
    pub fn restore(&self, links: &[Encapsulation]) {
        let mut interner = self.lock();
        *interner = InternedLinks::default();
        for link in links {
            interner.list.push(*link);
            let number = interner.list.len() as u16;
            interner.numbers.insert(*link, number);
        }
    }

    /// All links, by number less one.
    pub fn all(&self) -> Vec<Encapsulation> {
        self.lock().list.clone()
    }
}

/// What one worker knows of the book.
pub(super) struct InternerCache {
    interner: Arc<Interner>,
    list: Vec<Encapsulation>,
    /// The same in eight bytes where that is all; zero where it is not.
    short: Vec<u64>,
    numbers: HashMap<Encapsulation, u16, HashSeed>,
}

impl InternerCache {
    pub fn new(seed: &HashSeed, interner: &Arc<Interner>) -> Self {
        let numbers = HashMap::with_hasher(seed.clone());
        let mut links =
            Self { interner: Arc::clone(interner), list: Vec::new(), short: Vec::new(), numbers };
        links.copy(&interner.lock());
        links
    }

    fn copy(&mut self, interner: &InternedLinks) {
        for link in &interner.list[self.list.len()..] {
            self.list.push(*link);
            self.short.push(link.short().unwrap_or(0));
        }
    }

    /// Whether a number is that of a link. Nearly every packet of a side comes over the link that its first one
    /// came over.
    #[inline]
    pub fn is(&self, number: u16, link: &Encapsulation) -> bool {
        let place = usize::from(number.wrapping_sub(1));
        match (self.short.get(place), link.short()) {
            (Some(known), Some(short)) => *known == short,
            (Some(0), None) => self.list[place] == *link,
            _ => false,
        }
    }

    /// The link of a number.
    pub fn get(&self, number: u16) -> Option<&Encapsulation> {
        self.list.get(usize::from(number.wrapping_sub(1)))
    }

    /// The number of a link; none when the numbers are used up.
    pub fn number(&mut self, link: &Encapsulation) -> Option<u16> {
        if let Some(number) = self.numbers.get(link) {
            return Some(*number);
        }
        let interner = Arc::clone(&self.interner);
        let mut interner = interner.lock();
        let number = match interner.numbers.get(link) {
            Some(number) => *number,
            None => {
                let next =
                    u16::try_from(interner.list.len() + 1).ok().filter(|n| *n != MANY_LINKS)?;
                interner.list.push(*link);
                interner.numbers.insert(*link, next);
                next
            }
        };
        self.numbers.insert(*link, number);
        self.copy(&interner);
        Some(number)
    }
}
