//! What a file is: how it is compressed, how its characters are written and what its rows are written as.
//!
//! The name says it, and the first bytes say it with more weight where they are certain; then a note tells the user.

use std::io::{BufRead, Read};
use std::path::Path;

use crate::compressed::Compression;
use crate::conversation::FieldNames;
use crate::description::SourceDescription;
use crate::encoding::{Encoding, PARQUET, decoded};
use crate::error::DataError;
use crate::evidence::Evidence;
use crate::input::Input;
use crate::row_stream::{RowFormat, RowStream};
use crate::source::EXTENSIONS;
use crate::utf16::CutUnit;

/// How many bytes of a text are looked at.
const LOOKED_AT: u64 = 1 << 18;

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// One text.
    Text,
    /// Rows.
    Rows(RowFormat),
}

impl FileFormat {
    fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "txt" | "md" => Some(Self::Text),
            rows => RowFormat::of_extension(rows).map(Self::Rows),
        }
    }

    /// As descriptions and notes have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "one text",
            Self::Rows(format) => format.name(),
        }
    }
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileKind {
    pub(crate) compression: Compression,
    pub(crate) encoding: Encoding,
    pub(crate) format: FileFormat,
    /// What the user should know about how it is read.
    pub(crate) note: Option<String>,
}

impl FileKind {
    /// What the name of a file says; `otherwise` where that is nothing.
    pub(crate) fn named(path: &Path, otherwise: FileFormat) -> Self {
        let (compression, name) = Compression::of(path);
        let format = FileFormat::of_extension(&extension_of(&name)).unwrap_or(otherwise);
        Self { compression, encoding: Encoding::Utf8 { has_mark: false }, format, note: None }
    }

    /// Whether the name of a file says that it is read.
    pub(crate) fn is_named(path: &Path) -> bool {
        let extension = extension_of(&Compression::of(path).1);
        // Without the feature a Parquet file is refused, not passed over.
        FileFormat::of_extension(&extension).is_some()
    }

    /// What the name and the first bytes of a file say.
    ///
    /// # Errors
    /// [`DataError::Extension`] where neither says anything, [`DataError::Encoding`] where it is no text and no name says that it is.
    pub(crate) fn look(input: &Input, names: &FieldNames) -> Result<Self, DataError> {
        let (named, bare) = Compression::of(input.path());
        let extension = extension_of(&bare);
        let by_name = FileFormat::of_extension(&extension);
        let mut head = Vec::new();
        input.open()?.take(LOOKED_AT).read_to_end(&mut head).map_err(|error| input.failed(error))?;
        let mut reasons = Vec::new();
        let compression = match Compression::of_bytes(&head) {
            Some(found) => found,
            None if named != Compression::None && is_plain_text(&head) => Compression::None,
            None => named,
        };
        if compression != named {
            reasons.push(compression.name().map_or("not compressed".to_owned(), |name| format!("compressed with {name}")));
        }
        if compression != Compression::None {
            head.clear();
            let read = compression
                .open(input)
                .and_then(|reader| reader.take(LOOKED_AT).read_to_end(&mut head).map_err(|error| compression.failed(input, error)));
            if read.is_err() {
                // It is told, with all that can be read before it, when the file is read.
                head.clear();
            }
        }
        let is_whole = (head.len() as u64) < LOOKED_AT;
        let (encoding, format) = match Encoding::of_bytes(&head) {
            Ok(encoding) => {
                let text = encoding.decoded_start(&head);
                (encoding, decide(by_name, &extension, &Evidence::new(&text, is_whole, names)))
            }
            Err(PARQUET) => (Encoding::Utf8 { has_mark: false }, Some(FileFormat::Rows(RowFormat::Parquet))),
            // Told when it is read.
            Err(_) if by_name.is_some() => (Encoding::Utf8 { has_mark: false }, by_name),
            Err(found) => return Err(DataError::Encoding { path: input.name(), found }),
        };
        let format = match format {
            Some(format) => format,
            None if input.is_standard() => FileFormat::Text,
            None => return Err(DataError::Extension { path: input.name(), found: extension, expected: EXTENSIONS.to_owned() }),
        };
        if format == FileFormat::Rows(RowFormat::Parquet) {
            is_built_in(input)?;
        }
        if Some(format) != by_name {
            reasons.push(format.name().to_owned());
        }
        if matches!(encoding, Encoding::Utf16 { .. }) {
            reasons.push(format!("{} (columns in messages count bytes of UTF-8)", encoding.name()));
        }
        let why = if input.is_standard() { "which is what its first bytes say" } else { "which is what it holds, whatever its name says" };
        let note = (!reasons.is_empty()).then(|| format!("`{}` is read as {}, {why}", input.name(), reasons.join(", ")));
        Ok(Self { compression, encoding, format, note })
    }

    /// The file as it is read in this format, without its rows.
    pub(crate) fn described(&self, name: &str, format: FileFormat) -> SourceDescription {
        let is_text = format != FileFormat::Rows(RowFormat::Parquet);
        SourceDescription {
            compression: self.compression.name().map(str::to_owned),
            encoding: is_text.then(|| self.encoding.name().to_owned()),
            note: self.note.clone(),
            ..SourceDescription::new(name, format.name())
        }
    }

    /// A reader of its text as UTF-8, without a byte order mark.
    pub(crate) fn open(&self, input: &Input) -> Result<Box<dyn BufRead + Send>, DataError> {
        let reader = self.compression.open(input)?;
        match decoded(reader).map_err(|error| self.failed(input, error))? {
            Ok(reader) => Ok(reader),
            Err(found) => Err(DataError::Encoding { path: input.name(), found }),
        }
    }

    /// Its rows.
    pub(crate) fn rows(
        &self,
        input: &Input,
        format: RowFormat,
        max_row_bytes: usize,
    ) -> Result<RowStream<Box<dyn BufRead + Send>>, DataError> {
        if format == RowFormat::Parquet {
            is_built_in(input)?;
        }
        #[cfg(feature = "parquet")]
        if format == RowFormat::Parquet {
            if self.compression != Compression::None {
                return Err(DataError::Encoding { path: input.name(), found: "a compressed Parquet file" });
            }
            return Ok(RowStream::Parquet(Box::new(crate::parquet_rows::ParquetRows::open(input, max_row_bytes)?)));
        }
        Ok(RowStream::new(self.open(input)?, format, max_row_bytes))
    }

    /// The error of a read: of the file, or of what it holds.
    pub(crate) fn failed(&self, input: &Input, source: std::io::Error) -> DataError {
        let told = source.get_ref().and_then(|inner| {
            let format = if inner.is::<CutUnit>() { "UTF-16" } else { parquet_fault(inner)? };
            Some(DataError::Unreadable { path: input.name(), format, problem: inner.to_string() })
        });
        told.unwrap_or_else(|| self.compression.failed(input, source))
    }
}

/// Refuses Parquet where the build does not read it.
fn is_built_in(input: &Input) -> Result<(), DataError> {
    if cfg!(feature = "parquet") {
        return Ok(());
    }
    Err(DataError::NotBuiltIn { path: input.name(), what: PARQUET, feature: "parquet" })
}

#[cfg(feature = "parquet")]
fn parquet_fault(inner: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<&'static str> {
    inner.is::<crate::parquet_rows::ParquetFault>().then_some("Parquet")
}

#[cfg(not(feature = "parquet"))]
fn parquet_fault(_: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<&'static str> {
    None
}

fn extension_of(name: &str) -> String {
    Path::new(name).extension().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a text is read as.
fn decide(by_name: Option<FileFormat>, extension: &str, evidence: &Evidence<'_>) -> Option<FileFormat> {
    use RowFormat::{Array, Comma, Lines, Parquet, Tab};
    let of_objects = || {
        let lines = || evidence.lines().map(|has_field| (Lines, has_field));
        lines().or_else(|| evidence.array().map(|has_field| (Array, has_field)))
    };
    let of_table = || [Comma, Tab].into_iter().find(|format| evidence.table(*format));
    let found = match by_name {
        // A text that speaks of data is named so that it stays one.
        Some(FileFormat::Text) if extension == "md" => None,
        // A text may quote some JSON; only rows that can be trained on are no text.
        Some(FileFormat::Text) => of_objects().and_then(|(format, has_field)| has_field.then_some(format)),
        Some(FileFormat::Rows(Lines)) => evidence.array().map(|_| Array).or_else(of_table),
        Some(FileFormat::Rows(Array)) => evidence.begins_with_lines().then_some(Lines),
        Some(FileFormat::Rows(Comma | Tab)) => of_objects().map(|(format, _)| format).or_else(of_table),
        Some(FileFormat::Rows(Parquet)) => None,
        None => of_objects().map(|(format, _)| format).or_else(of_table),
    };
    found.map(FileFormat::Rows).or(by_name)
}

/// Whether this is the beginning of a text as people write it.
fn is_plain_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || "\t\n\r\u{c}".contains(c))
}
