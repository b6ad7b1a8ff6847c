//! Numbers for encapsulations. The sides of flows store a number instead of an encapsulation.
//!
//! All workers of a run share one interner, so equal numbers mean equal encapsulations wherever
//! tables merge. Each worker has a cache and uses the shared interner only once per encapsulation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::HashSeed;
use crate::decode::Encapsulation;

/// The number that marks a side without a recorded encapsulation.
pub(super) const NO_LINK: u16 = 0;
/// The number that marks a side with several encapsulations, which are in the rare evidence.
pub(super) const MANY_LINKS: u16 = u16::MAX;

/// Assigns the numbers for all workers of a run.
#[derive(Default)]
pub(super) struct Interner(Mutex<InternedLinks>);

#[derive(Default)]
struct InternedLinks {
    /// The encapsulations. The index of each is its number minus one.
    list: Vec<Encapsulation>,
    numbers: LinkNumbers,
}

/// The number of each encapsulation. Nearly all encapsulations have a short form
/// ([`Encapsulation::short`]), which is smaller and hashed faster.
#[derive(Default)]
struct LinkNumbers {
    short: HashMap<u128, u16, HashSeed>,
    /// The numbers of encapsulations without a short form.
    others: HashMap<Encapsulation, u16, HashSeed>,
}

impl LinkNumbers {
    fn new(seed: &HashSeed) -> Self {
        let short = HashMap::with_hasher(seed.clone());
        Self { short, others: HashMap::with_hasher(seed.clone()) }
    }

    fn get(&self, link: &Encapsulation) -> Option<u16> {
        let number = match link.short() {
            Some(short) => self.short.get(&short),
            None => self.others.get(link),
        };
        number.copied()
    }

    fn insert(&mut self, link: &Encapsulation, number: u16) {
        match link.short() {
            Some(short) => self.short.insert(short, number),
            None => self.others.insert(*link, number),
        };
    }
}

impl Interner {
    fn lock(&self) -> MutexGuard<'_, InternedLinks> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Restores the numbers of saved encapsulations. It must be called before any other number is
    /// assigned, because it discards existing numbers.
    pub fn restore(&self, links: &[Encapsulation]) {
        let mut interner = self.lock();
        *interner = InternedLinks::default();
        for link in links {
            interner.list.push(*link);
            let number = interner.list.len() as u16;
            interner.numbers.insert(link, number);
        }
    }

    /// Returns all encapsulations. The index of each is its number minus one.
    pub fn all(&self) -> Vec<Encapsulation> {
        self.lock().list.clone()
    }
}

/// One worker's copy of the interner.
pub(super) struct InternerCache {
    interner: Arc<Interner>,
    list: Vec<Encapsulation>,
    /// The same encapsulations in short form ([`Encapsulation::short`]), or zero for those without
    /// one.
    short: Vec<u128>,
    numbers: LinkNumbers,
}

impl InternerCache {
    pub fn new(seed: &HashSeed, interner: &Arc<Interner>) -> Self {
        let mut links = Self {
            interner: Arc::clone(interner),
            list: Vec::new(),
            short: Vec::new(),
            numbers: LinkNumbers::new(seed),
        };
        links.copy(&interner.lock());
        links
    }

    fn copy(&mut self, interner: &InternedLinks) {
        for link in &interner.list[self.list.len()..] {
            self.list.push(*link);
            self.short.push(link.short().unwrap_or(0));
        }
    }

    /// Returns whether `number` is the number of `link`. This is the fast path, because nearly all
    /// packets of a side have the same encapsulation.
    #[inline]
    pub fn is(&self, number: u16, link: &Encapsulation) -> bool {
        let place = usize::from(number.wrapping_sub(1));
        match (self.short.get(place), link.short()) {
            (Some(known), Some(short)) => *known == short,
            (Some(0), None) => self.list[place] == *link,
            _ => false,
        }
    }

    /// Returns the encapsulation that has this number, or `None` for [`NO_LINK`] and
    /// [`MANY_LINKS`].
    pub fn get(&self, number: u16) -> Option<&Encapsulation> {
        self.list.get(usize::from(number.wrapping_sub(1)))
    }

    /// Returns the number of an encapsulation, or `None` if all numbers are in use.
    pub fn number(&mut self, link: &Encapsulation) -> Option<u16> {
        if let Some(number) = self.numbers.get(link) {
            return Some(number);
        }
        let interner = Arc::clone(&self.interner);
        let mut interner = interner.lock();
        let number = match interner.numbers.get(link) {
            Some(number) => number,
            None => {
                let next =
                    u16::try_from(interner.list.len() + 1).ok().filter(|n| *n != MANY_LINKS)?;
                interner.list.push(*link);
                interner.numbers.insert(link, next);
                next
            }
        };
        self.numbers.insert(link, number);
        self.copy(&interner);
        Some(number)
    }
}
