//! Flows that were idle for long lie in temporary files, a file a partition. Whoever reads flows finds them there, and one
//! that goes on is in memory again and merges with its past when it is read.

use std::io::{self, Seek, SeekFrom, Write};
use std::net::IpAddr;

use super::links::Links;
use super::meeting::{Flows, Idle, Meeting, Partition};
use super::table::{FlowTable, PARTITIONS, Split};
use super::windows::{Fold, hardly_helps, stands_for};
use crate::model::Nanos;

impl Flows {
    /// Moves flows of which nothing was seen since `time` out of memory. Where they cannot be written they stay in memory.
    pub fn rest_idle(&mut self, time: Nanos) -> io::Result<()> {
        for number in 0..PARTITIONS {
            let seed = self.meeting.seed.clone();
            let idle = self.parts[number].flows.take_idle(time, &seed);
            if idle.is_empty() {
                continue;
            }
            let mut links = Links::new(&seed, &self.meeting.book);
            let whole = self.load(number).map(|mut whole| {
                whole.flows.merge_all(&idle, &seed, &mut links);
                whole.flows
            });
            if let Err(error) = whole.and_then(|whole| self.put_away(number, &whole)) {
                self.parts[number].flows.merge(idle, &seed, &mut links);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes flows all that the file of a partition holds. What it held stays where they cannot be written.
    fn put_away(&mut self, number: usize, flows: &FlowTable) -> io::Result<()> {
        let bytes = flows.to_bytes().map_err(io::Error::other)?;
        let mut file = tempfile::tempfile_in(&self.meeting.folder)?;
        for part in [&bytes[..], &Partition::no_rest()?] {
            file.write_all(&(part.len() as u64).to_le_bytes())?;
            file.write_all(part)?;
        }
        file.seek(SeekFrom::End(0))?;
        self.meeting.files()[number] = Some(file);
        self.count(number, flows, bytes.len());
        Ok(())
    }

    fn count(&mut self, number: usize, flows: &FlowTable, bytes: usize) {
        let talks = flows.talks(&self.meeting.seed);
        self.idle[number] = Idle { flows: flows.len(), talks, bytes: bytes as u64 };
    }

    /// Adds flows that were written as idle by an earlier run.
    pub(super) fn add_idle(&mut self, parts: Vec<FlowTable>) -> io::Result<()> {
        for (number, flows) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            self.meeting.write(number, &Partition::of(flows))?;
        }
        Ok(())
    }

    /// Makes one piece of what [`Flows::add_idle`] brought of each partition.
    pub(super) fn tidy_idle(&mut self) -> io::Result<()> {
        for number in 0..PARTITIONS {
            let flows = self.load(number)?.flows;
            if !flows.is_empty() {
                self.put_away(number, &flows)?;
            }
        }
        Ok(())
    }

    /// The idle flows of all partitions together.
    pub(super) fn idle_sums(&self) -> Idle {
        self.idle.iter().fold(Idle::default(), |sum, idle| Idle {
            flows: sum.flows + idle.flows,
            talks: sum.talks + idle.talks,
            bytes: sum.bytes + idle.bytes,
        })
    }

    /// How many flows lie in files, and their bytes.
    pub fn resting(&self) -> (usize, u64) {
        let Idle { flows, bytes, .. } = self.idle_sums();
        (flows, bytes)
    }

    /// Folds idle flows; those that others stand for come into memory. Returns how many were taken into others.
    pub(super) fn fold_idle(
        &mut self,
        fold: Fold,
        is_listed: &dyn Fn(IpAddr) -> bool,
    ) -> io::Result<u64> {
        let Meeting { seed, book, .. } = &self.meeting;
        let (seed, mut links) = (seed.clone(), Links::new(seed, book));
        let mut helps = hardly_helps(&seed);
        for number in (0..PARTITIONS).filter(|number| self.idle[*number].flows > 0) {
            helps.add(&self.load(number)?.flows, fold, is_listed);
        }
        if helps.hardly(fold) {
            return Ok(0);
        }
        let mut folded = 0;
        for number in 0..PARTITIONS {
            if self.idle[number].flows == 0 {
                continue;
            }
            // With what went on of them, so that each flow is counted once.
            let mut whole = self.load(number)?.flows;
            whole.merge(std::mem::take(&mut self.parts[number].flows), &seed, &mut links);
            let Split { kept, moved } =
                whole.split(&seed, |key, sides| stands_for(key, sides, fold, is_listed));
            if self.put_away(number, &kept).is_err() {
                // What the file still holds is in memory now.
                self.parts[number].flows = kept;
                self.meeting.files()[number] = None;
                self.idle[number] = Idle::default();
            }
            folded += moved.len() as u64;
            for flow in moved {
                let partition = flow.partition(&seed);
                self.parts[partition].flows.take_folded(flow, &seed, &mut links);
            }
        }
        Ok(folded)
    }
}
