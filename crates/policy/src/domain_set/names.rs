//! The names of a list in one table, laid out so that a lookup touches memory as rarely as
//! possible: with a million names, memory access is the whole cost.
//!
//! The records of all names are in the order of their hashes. A directory holds the start of each
//! run of about [`RUN`] records and a 32-bit filter of the records in it. The filter rejects nearly
//! every name that is not in the table. For a name in the table, the number of filter bits
//! before its own is the position of its record. A record is half a cache line and holds everything
//! that an answer needs, unless the name is long. The table is built once, from all names, and
//! never changed.

use alloc::string::String;
use alloc::vec::Vec;

use super::TooLarge;

/// Stands for no rule in a [`Record`].
pub(super) const NONE: u32 = u32::MAX;

/// Average number of records per entry of the directory.
const RUN: usize = 2;

/// Bytes of a name that its record has room for.
const INLINE: usize = 22;

/// Bytes of a longer name in its record. The rest of the room has the offset of its other bytes.
const FRONT: usize = INLINE - size_of::<u32>();

/// Bytes of the table for each name of at most [`INLINE`] bytes.
#[cfg(test)]
pub(super) const BYTES_EACH: usize = size_of::<Record>() + size_of::<Run>() / RUN;

/// A table from names to rules.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// One more than there are runs, so that the end of each run is the start of the next.
    directory: Vec<Run>,
    records: Vec<Record>,
    /// The bytes after the first [`FRONT`] of the names that are longer than [`INLINE`], one name after the
    /// other.
    backs: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The index of its first record.
    start: u32,
    /// The [`bit`](Hash::bit) of each of its records, which are in the order of these bits.
    filter: u32,
}

/// A name in the table, with its rules.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Record {
    /// As in [`Rules`], as separate fields, so that a record has 32 bytes.
    exact: u32,
    below: u32,
    literal: bool,
    length: u8,
    /// The name, if it has at most [`INLINE`] bytes. Otherwise its first [`FRONT`] bytes, and then the
    /// offset in `backs` at which the rest of it begins.
    text: [u8; INLINE],
}

/// The rules for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// The rule that covers the name itself, or [`NONE`].
    pub(super) exact: u32,
    /// The rule that covers every name below it, or [`NONE`].
    pub(super) below: u32,
    /// Whether `exact` is a rule for only this name.
    pub(super) literal: bool,
}

/// A hash of a name, from [`suffixes`]. It needs no secret: a collision costs a comparison and
/// never gives a wrong answer, and the patterns are the owner's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hash(u64);

impl Names {
    /// Builds the table of names with their hashes and rules. No name may occur twice. Returns the
    /// index of each name in the table, in the order of the input.
    pub(super) fn build<'a>(
        names: impl ExactSizeIterator<Item = (&'a str, Hash, Rules)>,
    ) -> Result<(Self, Vec<u32>), TooLarge> {
        let count = names.len();
        let runs = count / RUN + 1;
        let mut table = Self {
            directory: Vec::with_capacity(runs + 1),
            records: Vec::with_capacity(count),
            backs: Vec::new(),
        };
        let mut indices = alloc::vec![0; count];
        let mut sorted: Vec<_> = names.enumerate().collect();
        sorted.sort_unstable_by_key(|(_, (_, hash, _))| *hash);
        let mut sorted = sorted.into_iter().peekable();
        for run in 0..=runs {
            let start = index(table.records.len())?;
            let mut filter = 0;
            while let Some((came, (name, hash, rules))) =
                sorted.next_if(|(_, (_, hash, _))| hash.run(runs) == run)
            {
                filter |= hash.bit(runs);
                indices[came] = index(table.records.len())?;
                table.push(name.as_bytes(), rules)?;
            }
            table.directory.push(Run { start, filter });
        }
        table.backs.shrink_to_fit();
        Ok((table, indices))
    }

    /// Finds a name by its hash and its text. Returns its index and its rules.
    pub(super) fn find(&self, name: &[u8], hash: Hash) -> Option<(u32, Rules)> {
        let runs = self.directory.len().checked_sub(1)?;
        let run = hash.run(runs);
        let Run { start, filter } = self.directory[run];
        let bit = hash.bit(runs);
        if filter & bit == 0 {
            return None;
        }
        // Records that share a bit are rare. They follow at this position.
        let first = start + (filter & (bit - 1)).count_ones();
        let end = self.directory[run + 1].start;
        (first..end).find_map(|index| {
            let record = &self.records[index as usize];
            let rules = Rules {
                exact: record.exact,
                below: record.below,
                literal: record.literal,
            };
            self.is(record, name).then_some((index, rules))
        })
    }

    /// Appends the name at an index that [`build`](Self::build) or [`find`](Self::find) gave.
    pub(super) fn append(&self, index: usize, text: &mut String) {
        let (front, back) = self.parts(&self.records[index]);
        let bytes = front.iter().chain(back);
        text.extend(bytes.map(|byte| char::from(*byte)));
    }

    fn is(&self, record: &Record, name: &[u8]) -> bool {
        if usize::from(record.length) != name.len() {
            return false;
        }
        // An empty back is not compared: with AVX-512 the C library would load from the empty
        // slice's dangling address under a mask, which took 80 ns.
        if name.len() <= INLINE {
            return record.text[..name.len()] == *name;
        }
        let (front, back) = self.parts(record);
        name[..FRONT] == *front && name[FRONT..] == *back
    }

    /// The bytes of a record's name in the record, and those in `backs`.
    fn parts<'a>(&'a self, record: &'a Record) -> (&'a [u8], &'a [u8]) {
        let length = usize::from(record.length);
        match record.text.split_last_chunk() {
            Some((front, offset)) if length > INLINE => {
                let start = u32::from_le_bytes(*offset) as usize;
                (front, &self.backs[start..start + length - FRONT])
            }
            _ => (&record.text[..length], &[]),
        }
    }

    fn push(&mut self, name: &[u8], rules: Rules) -> Result<(), TooLarge> {
        let mut text = [0; INLINE];
        let rest = if name.len() <= INLINE {
            text[..name.len()].copy_from_slice(name);
            &[]
        } else {
            let (front, rest) = name.split_at(FRONT);
            text[..FRONT].copy_from_slice(front);
            text[FRONT..].copy_from_slice(&index(self.backs.len())?.to_le_bytes());
            rest
        };
        self.records.push(Record {
            exact: rules.exact,
            below: rules.below,
            literal: rules.literal,
            length: u8::try_from(name.len()).map_err(|_| TooLarge)?,
            text,
        });
        self.backs.extend_from_slice(rest);
        Ok(())
    }
}

fn index(length: usize) -> Result<u32, TooLarge> {
    u32::try_from(length).map_err(|_| TooLarge)
}

impl Hash {
    /// The hash of a whole name.
    pub(super) fn of(name: &str) -> Self {
        let whole = suffixes(name.as_bytes()).last();
        whole.map_or(Self(SEED), |(_, hash)| hash)
    }

    /// The run that a name is in. Runs are in the order of the hashes.
    fn run(self, runs: usize) -> usize {
        // There are fewer than 2³² records, so fewer runs, and the product has 64 bits.
        ((self.upper() * runs as u64) >> 32) as usize
    }

    /// One bit of 32, for a name among those of its run. Also in the order of the hashes.
    fn bit(self, runs: usize) -> u32 {
        // `run` takes the upper half of the product. The lower half is the position within the run.
        1 << ((self.upper() * runs as u64) >> 27 & 31)
    }

    fn upper(self) -> u64 {
        self.0 >> 32
    }
}

const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The suffixes of a name that begin at a label, the shortest first: where each begins, and its
/// hash. The hash reads a name from its end, so one pass over a host gives all of them.
pub(super) fn suffixes(name: &[u8]) -> impl Iterator<Item = (usize, Hash)> + '_ {
    let mut state = SEED;
    let mut end = name.len();
    core::iter::from_fn(move || {
        let mut start = end.checked_sub(1)?;
        // The dot behind a label is part of the hash, so that `a` + `b.c` differs from `ab` + `c`.
        loop {
            state = (state ^ u64::from(name[start])).wrapping_mul(FACTOR);
            if start == 0 || name[start - 1] == b'.' {
                break;
            }
            start -= 1;
        }
        end = start;
        // Multiplication carries differences upwards only. The shift brings them down, and the
        // second multiplication up again.
        Some((start, Hash((state ^ (state >> 32)).wrapping_mul(FACTOR))))
    })
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use super::{Hash, Names, Rules, suffixes};

    fn table(names: &[String], hash: impl Fn(&str) -> Hash) -> (Names, Vec<u32>) {
        let rules = |number| Rules {
            exact: number,
            below: number + 1,
            literal: number % 2 == 0,
        };
        let entries: Vec<_> = names
            .iter()
            .zip(0..)
            .map(|(name, number)| (name.as_str(), hash(name), rules(number)))
            .collect();
        Names::build(entries.into_iter()).expect("they fit")
    }

    #[test]
    fn p2_every_name_is_found_and_no_other() {
        for size in [0, 1, 2, 3, 5, 1000, 20_000] {
            let filler = "of-all-lengths.that-there-are.";
            let names: Vec<_> = (0..size)
                .map(|n| format!("{}n{n}.example", &filler[n % 31..]))
                .collect();
            let (table, indices) = table(&names, Hash::of);
            for (came, name) in names.iter().enumerate() {
                let (index, rules) = table.find(name.as_bytes(), Hash::of(name)).expect("there");
                assert_eq!(
                    (rules.exact as usize, rules.below as usize),
                    (came, came + 1)
                );
                assert_eq!(rules.literal, came % 2 == 0);
                assert_eq!(index, indices[came]);
                let mut text = String::new();
                table.append(index as usize, &mut text);
                assert_eq!(text, *name);
            }
            for other in ["example", "n.example", "x0.example", "n0.examplf"] {
                let found = table.find(other.as_bytes(), Hash::of(other));
                assert!(found.is_none(), "{other} in {size}");
            }
        }
    }

    #[test]
    fn p2_names_with_the_same_hash_are_distinguished() {
        let long = "a-name-that-is-longer-than-a-record.x";
        let names: Vec<_> = [
            "a.b",
            "c.d",
            long,
            "c.e",
            "b-name-that-is-longer-than-a-record.x",
        ]
        .map(String::from)
        .into();
        let (table, indices) = table(&names, |_| Hash(42));
        for (name, place) in names.iter().zip(indices) {
            let found = table.find(name.as_bytes(), Hash(42));
            assert_eq!(found.map(|(index, _)| index), Some(place), "{name}");
        }
        for other in [
            "c.f",
            "a-name-that-is-longer-than-a-record.y",
            "a-name-that-is-lon",
        ] {
            assert!(table.find(other.as_bytes(), Hash(42)).is_none(), "{other}");
        }
    }

    #[test]
    fn p2_a_suffix_has_the_hash_of_the_same_name() {
        let name = "a.bc.d.example";
        let found: Vec<_> = suffixes(name.as_bytes()).collect();
        let starts: Vec<_> = found.iter().map(|(start, _)| *start).collect();
        assert_eq!(starts, [7, 5, 2, 0]);
        for (start, hash) in found {
            assert_eq!(hash, Hash::of(&name[start..]));
        }
        assert_ne!(Hash::of("ab.c"), Hash::of("a.bc"));
    }
}
