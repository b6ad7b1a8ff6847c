//! The links that packets came over, each with a number: sides of flows hold the number.
//!
//! One book gives the numbers to all workers of a run, so that equal numbers are equal links wherever tables
//! meet. Each worker copies what it has met; the book is asked once a worker and link.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::Seed;
use crate::decode::Encapsulation;

/// A side's link number: none seen yet.
pub(super) const NO_LINK: u16 = 0;
/// A side's link number: look into the side table, which then holds all links of the side.
pub(super) const MANY_LINKS: u16 = u16::MAX;

/// Who gives the numbers.
#[derive(Default)]
pub(super) struct Book(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    /// By number less one.
    list: Vec<Encapsulation>,
    numbers: HashMap<Encapsulation, u16, Seed>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives these links their old numbers, before any other. What an attempt before left is forgotten.
    pub fn restore(&self, links: &[Encapsulation]) {
        let mut book = self.lock();
        *book = Numbered::default();
        for link in links {
            book.list.push(*link);
            let number = book.list.len() as u16;
            book.numbers.insert(*link, number);
        }
    }

    /// All links, by number less one.
    pub fn all(&self) -> Vec<Encapsulation> {
        self.lock().list.clone()
    }
}

/// What one worker knows of the book.
pub(super) struct Links {
    book: Arc<Book>,
    list: Vec<Encapsulation>,
    /// The same in eight bytes where that is all; zero where it is not.
    short: Vec<u64>,
    numbers: HashMap<Encapsulation, u16, Seed>,
}

impl Links {
    pub fn new(seed: &Seed, book: &Arc<Book>) -> Self {
        let numbers = HashMap::with_hasher(seed.clone());
        let mut links =
            Self { book: Arc::clone(book), list: Vec::new(), short: Vec::new(), numbers };
        links.copy(&book.lock());
        links
    }

    fn copy(&mut self, book: &Numbered) {
        for link in &book.list[self.list.len()..] {
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
        let book = Arc::clone(&self.book);
        let mut book = book.lock();
        let number = match book.numbers.get(link) {
            Some(number) => *number,
            None => {
                let next = u16::try_from(book.list.len() + 1).ok().filter(|n| *n != MANY_LINKS)?;
                book.list.push(*link);
                book.numbers.insert(*link, next);
                next
            }
        };
        self.numbers.insert(*link, number);
        self.copy(&book);
        Some(number)
    }
}
