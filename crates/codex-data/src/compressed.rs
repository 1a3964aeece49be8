//! Opening a file of text, compressed or not: gzip with all its members, zstd with all its frames, each checked to its end.
//!
//! What a file is compressed with is decided in [`crate::file_kind`]. A reader fails where data are cut or a checksum is another; nothing is returned in silence.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::DataError;
use crate::input::Input;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

pub(crate) const BUFFER_BYTES: usize = 1 << 17;

impl Compression {
    /// What a file's name says, and the name without it.
    pub(crate) fn of(path: &Path) -> (Self, String) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let ends = [(".gz", Self::Gzip), (".gzip", Self::Gzip), (".zst", Self::Zstd), (".zstd", Self::Zstd)];
        let found = ends.into_iter().find_map(|(end, kind)| Some((kind, name.strip_suffix(end)?.to_owned())));
        found.unwrap_or((Self::None, name))
    }

    /// What the cache's key says of it.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "gzip: ",
            Self::Zstd => "zstd: ",
        }
    }

    /// As descriptions have it.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// What the first bytes of a file say.
    pub(crate) fn of_bytes(start: &[u8]) -> Option<Self> {
        match start {
            [0x1F, 0x8B, 8, ..] => Some(Self::Gzip),
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    /// A reader of what is in a file.
    pub(crate) fn open(self, input: &Input) -> Result<Box<dyn BufRead + Send>, DataError> {
        let file = BufReader::with_capacity(BUFFER_BYTES, input.open()?);
        Ok(match self {
            Self::None => Box::new(file),
            Self::Gzip => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(file))),
            Self::Zstd => Box::new(BufReader::with_capacity(BUFFER_BYTES, Frames { file, decoder: None, has_begun: false })),
        })
    }

    /// The error of a read: of the file, or of what it holds.
    pub(crate) fn failed(self, input: &Input, source: io::Error) -> DataError {
        use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        if self != Self::None && matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof | Other) {
            return DataError::Compressed { path: input.name(), source };
        }
        input.failed(source)
    }
}

/// The frames of a zstd file, one after the other.
struct Frames {
    file: BufReader<Box<dyn Read + Send>>,
    /// Of the frame under way.
    decoder: Option<Box<FrameDecoder>>,
    has_begun: bool,
}

impl Frames {
    /// Begins the next frame; false at the end of the file. Skippable frames are skipped.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.file.fill_buf()?.is_empty() {
            self.has_begun = true;
            let mut decoder = Box::new(FrameDecoder::new());
            match decoder.init(&mut self.file) {
                Ok(()) => {
                    self.decoder = Some(decoder);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.file).take(u64::from(length)), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(broken("it ends within a skippable frame"));
                    }
                }
                Err(error) => return Err(broken(&error.to_string())),
            }
        }
        // Nothing at all is no frame, as it is no member of gzip.
        if self.has_begun { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.decoder else {
                if buffer.is_empty() || !self.begin()? {
                    return Ok(0);
                }
                continue;
            };
            while decoder.can_collect() == 0 && !decoder.is_finished() {
                let decoded = decoder.decode_blocks(&mut self.file, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| broken(&error.to_string()))?;
            }
            let n = decoder.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            if decoder.get_checksum_from_data().is_some_and(|stored| Some(stored) != decoder.get_calculated_checksum()) {
                return Err(broken("the checksum of a frame is another than that of its data"));
            }
            self.decoder = None;
        }
    }
}

fn broken(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let input = Input::File(dir.path().join(name));
        codex_core::files::write_atomic(input.path(), bytes).unwrap();
        let (kind, _) = Compression::of(input.path());
        let mut all = Vec::new();
        let mut reader = kind.open(&input).unwrap();
        let place = dir.path().display().to_string();
        let told = |error| kind.failed(&input, error).to_string().replace(&place, "D");
        reader.read_to_end(&mut all).map(|_| all).map_err(told)
    }

    #[test]
    fn the_name_says_what_a_file_is() {
        let of = |name: &str| Compression::of(Path::new(name));
        assert_eq!(of("a/B.JSONL.GZ"), (Compression::Gzip, "b.jsonl".to_owned()));
        assert_eq!(of("b.txt.zst"), (Compression::Zstd, "b.txt".to_owned()));
        assert_eq!(of("b.csv"), (Compression::None, "b.csv".to_owned()));
        let skippable = [0x53, 0x2A, 0x4D, 0x18];
        for (bytes, kind) in [(&gzip(b"")[..], Compression::Gzip), (&zstd(b""), Compression::Zstd), (&skippable, Compression::Zstd)] {
            assert_eq!(Compression::of_bytes(bytes), Some(kind));
        }
        assert_eq!((Compression::of_bytes(b"(abc"), Compression::of_bytes(b"\x1F\x8B")), (None, None));
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        let long = "a line that repeats itself\n".repeat(20_000).into_bytes();
        for (name, pack) in [("a.gz", gzip as fn(&[u8]) -> Vec<u8>), ("a.zst", zstd)] {
            assert_eq!(read(name, &pack(&long)).unwrap(), long);
            assert_eq!(read(name, &[pack(b"one "), pack(b""), pack(b"two")].concat()).unwrap(), b"one two", "{name}");
            assert_eq!(read(name, b"").unwrap_err(), format!("cannot decompress `D/{name}`: unexpected end of file"));
        }
        // A skippable frame between two frames.
        let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
        assert_eq!(read("a.zst", &[zstd(b"one "), skippable.clone(), zstd(b"two")].concat()).unwrap(), b"one two");
        assert!(read("a.zst", &skippable[..10]).unwrap_err().contains("skippable"));
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_wherever() {
        let text = (0..300_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
        for (name, whole) in [("a.gz", [gzip(b"first"), gzip(&text)].concat()), ("a.zst", [zstd(b"first"), zstd(&text)].concat())] {
            let mut n_cut = 0;
            for len in 1..whole.len() {
                match read(name, &whole[..len]) {
                    // Between the first and the second a file is whole.
                    Ok(found) => {
                        assert_eq!(found, b"first", "{name} {len}");
                        n_cut += 1;
                    }
                    Err(error) => assert!(error.starts_with(&format!("cannot decompress `D/{name}`: ")), "{error}"),
                }
            }
            assert_eq!(n_cut, 1, "{name}");
            for at in (0..whole.len()).step_by(7) {
                let mut changed = whole.clone();
                changed[at] ^= 0x20;
                // What a header says about time or system changes nothing.
                if let Ok(found) = read(name, &changed) {
                    assert_eq!(found, [b"first", text.as_slice()].concat(), "{name}: a change at {at} went unnoticed");
                }
            }
        }
    }
}
