//! Reads a bill of materials (`bom(5)`), from which the installer takes owners and modes: numbered
//! blocks, and a tree of paths, each with the number of its parent directory.

use std::collections::BTreeMap;

/// The entry of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) size: u32,
}

struct Bom<'a> {
    file: &'a [u8],
    blocks: usize,
}

fn number(bytes: &[u8], at: usize, length: usize) -> u32 {
    bytes[at..at + length]
        .iter()
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

impl<'a> Bom<'a> {
    fn block(&self, index: u32) -> &'a [u8] {
        let entry = self.blocks + 4 + 8 * index as usize;
        let at = number(self.file, entry, 4) as usize;
        let length = number(self.file, entry + 4, 4) as usize;
        &self.file[at..at + length]
    }

    /// The block of this name.
    fn named(&self, wanted: &str) -> &'a [u8] {
        let mut at = number(self.file, 24, 4) as usize;
        let count = number(self.file, at, 4);
        at += 4;
        for _ in 0..count {
            let index = number(self.file, at, 4);
            let length = usize::from(self.file[at + 4]);
            let name = &self.file[at + 5..at + 5 + length];
            if name == wanted.as_bytes() {
                return self.block(index);
            }
            at += 5 + length;
        }
        panic!("there is no {wanted}");
    }
}

/// The entries by their paths, without the first `./`.
pub(crate) fn read(file: &[u8]) -> BTreeMap<String, Entry> {
    assert_eq!(&file[..8], b"BOMStore");
    let bom = Bom {
        file,
        blocks: number(file, 16, 4) as usize,
    };
    let tree = bom.named("Paths");
    assert_eq!(&tree[..4], b"tree");
    // Down to the first leaf, then along the leaves.
    let mut node = bom.block(number(tree, 8, 4));
    while number(node, 0, 2) == 0 {
        node = bom.block(number(node, 12, 4));
    }
    let mut names: BTreeMap<u32, (u32, String)> = BTreeMap::new();
    let mut found = Vec::new();
    loop {
        for index in 0..number(node, 2, 2) as usize {
            let first = bom.block(number(node, 12 + 8 * index, 4));
            let name = bom.block(number(node, 16 + 8 * index, 4));
            let (id, second) = (number(first, 0, 4), bom.block(number(first, 4, 4)));
            let above = number(name, 0, 4);
            let name = name[4..].strip_suffix(b"\0").expect("it ends with NUL");
            let name = String::from_utf8(name.to_vec()).expect("a name");
            names.insert(id, (above, name));
            found.push((
                id,
                Entry {
                    mode: number(second, 4, 2),
                    user: number(second, 6, 4),
                    group: number(second, 10, 4),
                    size: number(second, 18, 4),
                },
            ));
        }
        let next = number(node, 4, 4);
        if next == 0 {
            break;
        }
        node = bom.block(next);
    }
    let path = |mut id: u32| {
        let mut parts = Vec::new();
        while let Some((above, name)) = names.get(&id) {
            parts.push(name.as_str());
            id = *above;
        }
        parts.reverse();
        let path = parts.join("/");
        path.strip_prefix("./").unwrap_or(&path).to_owned()
    };
    found
        .into_iter()
        .map(|(id, entry)| (path(id), entry))
        .collect()
}
