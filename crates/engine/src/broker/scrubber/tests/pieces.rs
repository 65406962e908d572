//! The sizes of the pieces that are sent, and their times.

use super::forms::encoded;
use super::*;

/// The pieces that are sent.
fn sent(scrubber: &Arc<Scrubber>, pieces: &[&[u8]]) -> Vec<Vec<Bytes>> {
    let mut stream = ScrubbedStream::new(Arc::clone(scrubber));
    let mut sent = Vec::new();
    for piece in pieces {
        let mut now = Vec::new();
        stream.push(Bytes::copy_from_slice(piece), |piece| now.push(piece));
        sent.push(now);
    }
    let mut now = Vec::new();
    stream.finish(|piece| now.push(piece));
    sent.push(now);
    sent
}

#[test]
fn b12_the_pieces_sent_do_not_show_how_much_of_a_guess_is_right() {
    let scrubber = scrubber(&[(VALUE, DUMMY)]);
    let lengths = |pieces: &[&[u8]]| -> Vec<Vec<usize>> {
        let sent = sent(&scrubber, pieces).into_iter();
        sent.map(|pieces| pieces.iter().map(Bytes::len).collect())
            .collect()
    };
    for (name, form) in encoded(VALUE) {
        let form = form.as_bytes();
        for length in 1..form.len() {
            for right in [0, length / 2, length - 1] {
                let guess = &form[..length];
                let mut wrong = guess.to_vec();
                for byte in &mut wrong[right..] {
                    *byte = if *byte == b'Q' { b'R' } else { b'Q' };
                }
                for before in ["", "token=", "\"token\": \"", "line\n"] {
                    for after in ["", "Q", "\"}", "\n"] {
                        let whole = |guess: &[u8]| [before.as_bytes(), guess].concat();
                        let (one, other) = (whole(guess), whole(&wrong));
                        let after = after.as_bytes();
                        assert_eq!(
                            lengths(&[&one, after]),
                            lengths(&[&other, after]),
                            "{name} {right} {length} {before:?} {after:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn b12_events_lines_and_json_texts_pass_at_once() {
    let scrubber = scrubber(&[(VALUE, DUMMY)]);
    let begun = format!("data: {}\n\n", &VALUE[..12]);
    for piece in [
        "data: sk-proj-\n\n",
        &begun,
        "a line\r\n",
        "a word ",
        "\"sk-proj-\"",
        "{\"delta\": \"sk-\"}",
        "[1]",
        "[1,",
    ] {
        let whole = Bytes::copy_from_slice(piece.as_bytes());
        assert_eq!(
            sent(&scrubber, &[piece.as_bytes()]),
            [vec![whole], vec![]],
            "{piece:?}"
        );
    }
}

#[test]
fn b12_the_end_of_an_escaped_character_is_held_back() {
    let scrubber = scrubber(&[(VALUE, DUMMY)]);
    for (piece, at_once) in [
        (r#"x \""#, 2),
        (r"x \'", 2),
        ("x &amp;", 2),
        ("x &#x2b;", 2),
        (r#"x ""#, 3),
        ("x amp;", 6),
    ] {
        let sent = sent(&scrubber, &[piece.as_bytes()]);
        assert_eq!(
            sent[0].iter().map(Bytes::len).sum::<usize>(),
            at_once,
            "{piece}"
        );
    }
}
