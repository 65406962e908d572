//! The names of a list in one table, laid out so that a lookup reaches into memory as seldom as
//! can be: with a million names that is all that it costs.
//!
//! The records of all names stand one after the other, in the order of their hashes. A directory
//! says where each run of about [`RUN`] records begins, and in 32 bits which of them may be there:
//! nearly every name that is not in the table is turned away by the directory, a small array, and
//! a name that is costs one further place in memory, where its rules and its text stand together.
//! The table is made once, from all names, and never changed.

use alloc::vec::Vec;

use super::TooLarge;

/// "No rule" in a [`Record`].
pub(super) const NONE: u32 = u32::MAX;

/// Records that share a place in the directory, on average.
const RUN: usize = 4;

/// What stands before the name in a record: a byte of the hash, the length, the two rules.
const HEAD: usize = 10;

/// A table from names to rules.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// One more than there are runs, so that the next one's start is a run's end.
    directory: Vec<Run>,
    records: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where its records begin.
    start: u32,
    /// The bits that its names have in [`Hash::filter`].
    filter: u32,
}

/// What the table knows of a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    /// Its place in the table, which is what a rule remembers.
    pub(super) place: u32,
    /// The rule that covers the name itself, or [`NONE`].
    pub(super) exact: u32,
    /// The rule that covers every name below it, or [`NONE`].
    pub(super) below: u32,
    /// The name.
    pub(super) name: &'a [u8],
}

/// A hash of a name, from [`suffixes`]: the upper half says which run, other bits which record.
/// It needs no secret: what collides costs one comparison, and the patterns are the owner's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hash(u64);

impl Names {
    /// Makes the table of names, with their hashes, the rules that cover each and what is below
    /// it. No name comes twice. Gives the place of each, in the order in which they came.
    pub(super) fn build<'a>(
        names: impl ExactSizeIterator<Item = (Hash, Record<'a>)>,
    ) -> Result<(Self, Vec<u32>), TooLarge> {
        let mut places = alloc::vec![0; names.len()];
        let mut sorted: Vec<_> = names.enumerate().collect();
        sorted.sort_unstable_by_key(|(_, (hash, _))| *hash);
        let bytes = sorted
            .iter()
            .map(|(_, (_, record))| HEAD + record.name.len());
        let bytes = bytes.sum();
        u32::try_from(bytes).map_err(|_| TooLarge)?;
        let mut table = Self {
            directory: Vec::with_capacity(sorted.len() / RUN + 2),
            records: Vec::with_capacity(bytes),
        };
        let runs = sorted.len() / RUN + 1;
        let mut sorted = sorted.into_iter().peekable();
        for run in 0..=runs {
            let start = table.end()?;
            let mut filter = 0;
            while let Some((index, (hash, record))) =
                sorted.next_if(|(_, (hash, _))| hash.run(runs) == run)
            {
                filter |= hash.filter();
                places[index] = table.end()?;
                let length = u8::try_from(record.name.len()).map_err(|_| TooLarge)?;
                table.records.extend([hash.tag(), length]);
                table.records.extend(record.exact.to_le_bytes());
                table.records.extend(record.below.to_le_bytes());
                table.records.extend(record.name);
            }
            table.directory.push(Run { start, filter });
        }
        Ok((table, places))
    }

    /// Finds a name by its hash and its text.
    pub(super) fn find(&self, name: &[u8], hash: Hash) -> Option<Record<'_>> {
        let run = hash.run(self.directory.len().checked_sub(1)?);
        let Run { start, filter } = self.directory[run];
        if filter & hash.filter() == 0 {
            return None;
        }
        let end = self.directory[run + 1].start;
        let mut place = start;
        while place < end {
            let at = place as usize;
            let length = self.records[at + 1];
            if self.records[at] == hash.tag() && usize::from(length) == name.len() {
                let record = self.record(place);
                if record.name == name {
                    return Some(record);
                }
            }
            place = place.saturating_add(u32::from(length) + HEAD as u32);
        }
        None
    }

    /// The record at a place that [`build`](Self::build) or [`find`](Self::find) gave.
    pub(super) fn record(&self, place: u32) -> Record<'_> {
        let (head, rest) = self.records[place as usize..].split_at(HEAD);
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Record {
            place,
            exact: word(2),
            below: word(6),
            name: &rest[..usize::from(head[1])],
        }
    }

    fn end(&self) -> Result<u32, TooLarge> {
        u32::try_from(self.records.len()).map_err(|_| TooLarge)
    }
}

impl Hash {
    /// The hash of a whole name.
    pub(super) fn of(name: &str) -> Self {
        let whole = suffixes(name.as_bytes()).last();
        whole.map_or(Self(SEED), |(_, hash)| hash)
    }

    /// All of it, for a table that grows.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    fn run(self, runs: usize) -> usize {
        // Below `runs`, and in the order of the hashes. There are fewer than 2³² records, and so
        // fewer runs.
        (((self.0 >> 32) * runs as u64) >> 32) as usize
    }

    fn filter(self) -> u32 {
        1 << (self.0 >> 16 & 31)
    }

    fn tag(self) -> u8 {
        self.0.to_le_bytes()[1]
    }
}

const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The suffixes of a name that begin at a label, the shortest first: where each begins, and its
/// hash. A hash takes in its name from the end, so one pass over a host gives all of them.
pub(super) fn suffixes(name: &[u8]) -> impl Iterator<Item = (usize, Hash)> + '_ {
    let mut state = SEED;
    let mut end = name.len();
    core::iter::from_fn(move || {
        let mut start = end.checked_sub(1)?;
        // The dot behind a label counts with it, so that `a` + `b.c` is not `ab` + `c`.
        loop {
            state = (state ^ u64::from(name[start])).wrapping_mul(FACTOR);
            if start == 0 || name[start - 1] == b'.' {
                break;
            }
            start -= 1;
        }
        end = start;
        // Multiplying carries differences upwards only: this brings them down, and up once more.
        Some((start, Hash((state ^ (state >> 32)).wrapping_mul(FACTOR))))
    })
}
