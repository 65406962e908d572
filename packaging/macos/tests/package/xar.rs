//! Reads a xar archive, the outer form of a package: a header, a compressed table of contents in
//! XML, and a heap. It accepts the forms that occur in packages, and checks them.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::ZlibDecoder;

/// The files by their paths.
pub(crate) fn read(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let number = |range: std::ops::Range<usize>| {
        archive[range]
            .iter()
            .fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    assert_eq!(&archive[..4], b"xar!");
    assert_eq!(number(4..6), 28, "the header's size");
    assert_eq!(number(6..8), 1, "the version");
    let (packed, unpacked) = (number(8..16), number(16..24));
    assert_eq!(number(24..28), 1, "SHA-1 it is");
    let (table, heap) = archive[28..].split_at(packed);
    let table = inflate(table);
    assert_eq!(table.len(), unpacked);
    let table = String::from_utf8(table).expect("XML is text");
    let mut files = BTreeMap::new();
    walk(&table, "", heap, &mut files);
    files
}

fn inflate(data: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    ZlibDecoder::new(data)
        .read_to_end(&mut content)
        .expect("zlib");
    content
}

/// Reads the `<file>` elements of this text and those inside them.
fn walk(text: &str, above: &str, heap: &[u8], files: &mut BTreeMap<String, Vec<u8>>) {
    for file in elements(text, "file") {
        // The elements of this file, without those inside it.
        let mut own = file.to_owned();
        for inner in elements(file, "file") {
            own = own.replace(inner, "");
        }
        let path = format!("{above}{}", one(&own, "name"));
        match one(&own, "type") {
            "directory" => walk(file, &format!("{path}/"), heap, files),
            "file" => {
                let data = elements(&own, "data")[0];
                let number = |name| one(data, name).parse::<usize>().expect("a number");
                let (offset, length) = (number("offset"), number("length"));
                let stored = &heap[offset..offset + length];
                let content = if data.contains("application/x-gzip") {
                    inflate(stored)
                } else {
                    stored.to_vec()
                };
                assert_eq!(content.len(), number("size"), "{path}");
                assert!(files.insert(path.clone(), content).is_none(), "{path}");
            }
            other => panic!("{path}: {other}"),
        }
    }
}

/// The contents of the outermost elements of this name.
fn elements<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut found = Vec::new();
    let (mut at, mut depth, mut begin) = (0, 0_u32, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(&close) {
            depth -= 1;
            if depth == 0 {
                found.push(&text[begin..at]);
            }
            at += close.len();
        } else if rest.starts_with(&open) && rest[open.len()..].starts_with(['>', ' ']) {
            let head = rest.find('>').expect("the tag ends") + 1;
            if depth == 0 {
                begin = at + head;
            }
            depth += 1;
            at += head;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    found
}

fn one<'a>(text: &'a str, name: &str) -> &'a str {
    let found = elements(text, name);
    assert_eq!(found.len(), 1, "{name} in {text}");
    found[0].trim()
}
