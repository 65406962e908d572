//! Reads a compressed cpio archive of the old portable form (`cpio -o --format=odc`), the form of a
//! package's payload and scripts.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;

/// An entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) content: Vec<u8>,
}

/// The entries by their paths, without the first `./`.
pub(crate) fn read(compressed: &[u8]) -> BTreeMap<String, Entry> {
    let mut archive = Vec::new();
    GzDecoder::new(compressed)
        .read_to_end(&mut archive)
        .expect("gzip");
    let mut entries = BTreeMap::new();
    let mut at = 0;
    loop {
        let mut field = |length: usize| {
            let text = std::str::from_utf8(&archive[at..at + length]).expect("digits");
            at += length;
            u32::from_str_radix(text, 8).expect("an octal number")
        };
        assert_eq!(field(6), 0o070_707, "the magic number");
        let _device = field(6);
        let _inode = field(6);
        let mode = field(6);
        let user = field(6);
        let group = field(6);
        let _links = field(6);
        let _rdev = field(6);
        let _time = field(11);
        let name_length = field(6) as usize;
        let length = field(11) as usize;
        let name = archive[at..at + name_length]
            .strip_suffix(b"\0")
            .expect("a name ends with NUL");
        let name = std::str::from_utf8(name).expect("a name");
        at += name_length;
        if name == "TRAILER!!!" {
            assert!(archive[at..].iter().all(|byte| *byte == 0));
            return entries;
        }
        let content = archive[at..at + length].to_vec();
        at += length;
        let name = name.strip_prefix("./").unwrap_or(name);
        let entry = Entry {
            mode,
            user,
            group,
            content,
        };
        assert!(entries.insert(name.to_owned(), entry).is_none(), "{name}");
    }
}
