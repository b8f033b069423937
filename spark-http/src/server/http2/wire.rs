//! The frames of HTTP/2 as they pass by: which streams are open, and whether a head is on its way.
//! Sans-IO: bytes in, facts out. The protocol itself is h2's.
//!
//! h2 and hyper tell neither when an answer has gone out, nor that a part of a frame came, nor
//! that a client left a stream. The headers of frames tell all three (RFC 9113, 4.1):
//!
//! 1. A stream is open from the end of its first head, if h2 will look at it (it has not said
//!    in a GOAWAY that it will not), until either side resets it or our side ends it.
//! 2. Of the frames that we write, those with `END_STREAM` are the ends of answers.
//! 3. h2 answers a head that is far too large by itself, with a status and no other field. hyper
//!    adds a date at the least.

use std::collections::BTreeMap;

/// What both directions of a connection have carried.
#[derive(Debug)]
pub(super) struct Wire {
    /// Of the client's preface, how much has not come yet.
    preface_left: usize,
    incoming: Frames,
    outgoing: Frames,
    /// With whether the head of the answer was written.
    open: BTreeMap<u32, bool>,
    /// The newest stream that the client has opened.
    newest: u32,
    /// Streams above this one are not looked at.
    limit: u32,
    /// A head that goes on in another frame.
    is_head_unfinished: bool,
    /// Answers that were written to their ends, but for those that h2 made.
    ended: u64,
    /// Frames of answers that were written.
    written: u64,
    /// Whole frames that came.
    read: u64,
}

#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER],
    /// How much of the header is there.
    have: usize,
    /// How much of the payload is missing.
    left: usize,
    /// The beginning of the payload.
    start: [u8; 4],
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
    start: [u8; 4],
}

// === impl Wire ===

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            preface_left: PREFACE.len(),
            incoming: Frames::default(),
            outgoing: Frames::default(),
            open: BTreeMap::new(),
            newest: 0,
            limit: u32::MAX,
            is_head_unfinished: false,
            ended: 0,
            written: 0,
            read: 0,
        }
    }

    /// Bytes came from the client.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let preface = self.preface_left.min(bytes.len());
        self.preface_left -= preface;
        let mut bytes = &bytes[preface..];
        while let Some(frame) = self.incoming.next(&mut bytes) {
            self.read += 1;
            match frame.kind {
                HEADERS | CONTINUATION => {
                    self.is_head_unfinished = frame.flags & END_HEADERS == 0;
                    if !self.is_head_unfinished {
                        self.open(frame.stream);
                    }
                }
                RST_STREAM => {
                    self.open.remove(&frame.stream);
                }
                _ => {}
            }
        }
    }

    /// Bytes went to the client.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.outgoing.next(&mut bytes) {
            match frame.kind {
                DATA | HEADERS => {
                    self.written += 1;
                    if frame.flags & END_STREAM == 0 {
                        if let Some(has_begun) = self.open.get_mut(&frame.stream) {
                            *has_begun = true;
                        }
                    } else if self.open.remove(&frame.stream) == Some(true)
                        || !frame.has_one_field()
                    {
                        self.ended += 1;
                    }
                }
                RST_STREAM => {
                    self.open.remove(&frame.stream);
                }
                GOAWAY => {
                    self.limit = u32::from_be_bytes(frame.start) & STREAM;
                    self.open.retain(|&stream, _| stream <= self.limit);
                }
                _ => {}
            }
        }
    }

    /// Whether the client is owed an answer, or the rest of one.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether something has begun to come that is no body, and nothing can be read before it ends.
    pub(super) fn is_mid_head(&self) -> bool {
        self.read == 0 || self.is_head_unfinished || self.incoming.is_mid_control()
    }

    /// How many of hyper's answers were written to their ends.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// How many frames of answers were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    fn open(&mut self, stream: u32) {
        // A second head is the trailer of a body.
        if stream > self.newest && stream <= self.limit {
            self.newest = stream;
            self.open.insert(stream, false);
        }
    }
}

// === impl Frames ===

impl Frames {
    /// The next frame that is complete with the first of `bytes`, which are taken off.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        if self.have < HEADER {
            let taken = take(bytes, HEADER - self.have);
            self.header[self.have..][..taken.len()].copy_from_slice(taken);
            self.have += taken.len();
            if self.have < HEADER {
                return None;
            }
            self.left = self.length();
        }
        let done = self.length() - self.left;
        let payload = take(bytes, self.left);
        self.left -= payload.len();
        if let Some(start) = self.start.get_mut(done..) {
            let length = start.len().min(payload.len());
            start[..length].copy_from_slice(&payload[..length]);
        }
        if self.left > 0 {
            return None;
        }
        self.have = 0;
        let [_, _, _, kind, flags, stream @ ..] = self.header;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & STREAM,
            length: self.length(),
            start: self.start,
        })
    }

    /// Whether a part of a frame has come that is not known to be data.
    fn is_mid_control(&self) -> bool {
        self.have > 0 && (self.have < HEADER || self.header[3] != DATA)
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.header;
        u32::from_be_bytes([0, high, middle, low]) as usize
    }
}

// === impl Frame ===

impl Frame {
    /// Whether this is a head with a status and nothing else, in one of the forms that h2 gives it
    /// (RFC 7541, 6.1 and 6.2.1).
    fn has_one_field(&self) -> bool {
        let [first, second, ..] = self.start;
        self.kind == HEADERS
            && match self.length {
                1 => true,
                2 => first == INDEXED_LONG,
                length => first == NEW_STATUS && length == 2 + usize::from(second & !HUFFMAN),
            }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    *bytes = rest;
    taken
}

/// How a client begins, before its first frame.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;
const STREAM: u32 = 0x7fff_ffff;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// A field of which the index goes on in another byte.
const INDEXED_LONG: u8 = 0xff;
/// A status that is none of the usual ones, for the first time.
const NEW_STATUS: u8 = 0x48;
/// Above the length of a text.
const HUFFMAN: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn begun() -> Wire {
        let mut wire = Wire::new();
        wire.read(PREFACE);
        assert!(wire.is_mid_head(), "the settings are missing");
        wire.read(&frame(4, 0, 0, &[]));
        assert!(!wire.is_mid_head() && !wire.is_open());
        wire
    }

    #[test]
    fn a_stream_is_open_from_the_end_of_its_head_to_the_end_of_its_answer() {
        let mut wire = begun();
        wire.read(&frame(HEADERS, 0, 1, b"head"));
        assert!(wire.is_mid_head() && !wire.is_open());
        wire.read(&frame(CONTINUATION, END_HEADERS, 1, b"rest"));
        assert!(!wire.is_mid_head() && wire.is_open());
        wire.wrote(&frame(HEADERS, END_HEADERS, 1, b"answer"));
        wire.wrote(&frame(DATA, 0, 1, b"some"));
        assert_eq!((wire.is_open(), wire.ended(), wire.written()), (true, 0, 2));
        wire.wrote(&frame(DATA, END_STREAM, 1, b"more"));
        assert_eq!(
            (wire.is_open(), wire.ended(), wire.written()),
            (false, 1, 3)
        );
        // A trailer opens nothing.
        wire.read(&frame(HEADERS, END_HEADERS | END_STREAM, 1, b"late"));
        assert!(!wire.is_open());
    }

    #[test]
    fn a_reset_by_either_side_closes_a_stream_and_ends_no_answer() {
        let mut wire = begun();
        for stream in [1, 3] {
            wire.read(&frame(HEADERS, END_HEADERS, stream, b"head"));
        }
        wire.read(&frame(RST_STREAM, 0, 1, &[0; 4]));
        assert!(wire.is_open());
        wire.wrote(&frame(RST_STREAM, 0, 3, &[0; 4]));
        assert_eq!((wire.is_open(), wire.ended()), (false, 0));
    }

    #[test]
    fn answers_of_one_field_are_h2s_own_and_trailers_are_not() {
        let ends = END_HEADERS | END_STREAM;
        for own in [
            &b"\x48\x82\x68\x5f"[..],
            b"\x48\x03431",
            b"\xbe",
            b"\xff\x01",
        ] {
            let mut wire = begun();
            wire.read(&frame(HEADERS, ends, 1, b"head"));
            wire.wrote(&frame(HEADERS, ends, 1, own));
            assert_eq!((wire.is_open(), wire.ended()), (false, 0), "{own:x?}");

            wire.read(&frame(HEADERS, ends, 3, b"head"));
            wire.wrote(&frame(HEADERS, END_HEADERS, 3, b"\x88\xbe"));
            wire.wrote(&frame(HEADERS, ends, 3, own));
            assert_eq!((wire.is_open(), wire.ended()), (false, 1), "{own:x?}");

            let more = [own, b"\xbf"].concat();
            wire.read(&frame(HEADERS, ends, 5, b"head"));
            wire.wrote(&frame(HEADERS, ends, 5, &more));
            assert_eq!((wire.is_open(), wire.ended()), (false, 2), "{more:x?}");
        }
    }

    #[test]
    fn streams_beyond_a_goaway_are_nobodys() {
        let mut wire = begun();
        for stream in [1, 3] {
            wire.read(&frame(HEADERS, END_HEADERS, stream, b"head"));
        }
        let mut last = 1_u32.to_be_bytes().to_vec();
        last.extend([0; 4]);
        wire.wrote(&frame(GOAWAY, 0, 0, &last));
        wire.wrote(&frame(DATA, END_STREAM, 1, b""));
        wire.read(&frame(HEADERS, END_HEADERS, 5, b"head"));
        assert!(!wire.is_open());
    }

    #[test]
    fn half_a_body_is_not_half_a_head() {
        let mut wire = begun();
        wire.read(&frame(HEADERS, END_HEADERS, 1, b"head"));
        let data = frame(DATA, 0, 1, b"data");
        wire.read(&data[..3]);
        assert!(wire.is_mid_head(), "it could be anything");
        wire.read(&data[3..11]);
        assert!(!wire.is_mid_head());
        wire.read(&data[11..]);
        wire.read(&frame(6, 0, 0, &[0; 8])[..12]);
        assert!(wire.is_mid_head());
    }

    proptest! {
        #[test]
        fn it_is_the_same_however_the_bytes_are_cut(
            frames in prop::collection::vec(
                (0..11_u8, any::<u8>(), 0..9_u32, prop::collection::vec(any::<u8>(), 0..20)),
                0..20,
            ),
            cuts in prop::collection::vec(1..30_usize, 1..40),
        ) {
            let bytes: Vec<u8> = frames
                .iter()
                .flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload))
                .collect();
            let (mut whole, mut pieces) = (begun(), begun());
            whole.read(&bytes);
            whole.wrote(&bytes);
            let feed = |mut rest: &[u8], step: &mut dyn FnMut(&[u8])| {
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    step(take(&mut rest, *cut));
                }
            };
            feed(&bytes, &mut |piece| pieces.read(piece));
            feed(&bytes, &mut |piece| pieces.wrote(piece));
            prop_assert_eq!(&whole.open, &pieces.open);
            prop_assert_eq!(whole.is_mid_head(), pieces.is_mid_head());
            prop_assert_eq!((whole.ended, whole.written), (pieces.ended, pieces.written));
        }
    }
}
