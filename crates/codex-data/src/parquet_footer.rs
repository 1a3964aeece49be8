//! How deep the schema of a Parquet file is nested, read from its footer before the library reads it.
//!
//! The library builds the schema by recursion, so a crafted footer of a megabyte would end the process with a full stack. This reads the
//! list of the schema's elements and nothing else, with a loop (Apache Thrift's compact protocol; `FileMetaData` of `parquet.thrift`).

use std::io::Read as _;
use std::sync::Arc;

use crate::parquet_rows::ParquetFault;
use crate::shared_file::SharedFile;

/// The deepest nesting of columns. A list takes two levels, a list of structs three.
const MAX_DEPTH: usize = 100;
/// The largest footer; one of 10,000 columns and 1,000 row groups has a tenth of it.
const MAX_FOOTER_BYTES: u64 = 256 << 20;
/// The deepest nesting of what is passed over.
const MAX_SKIPPED: usize = 32;

/// Refuses a file without a footer, and a schema that is nested too deeply.
pub(crate) fn check(file: &Arc<SharedFile>, bytes: u64) -> Result<(), ParquetFault> {
    let failed = |error: std::io::Error| ParquetFault(error.to_string());
    let no_footer = || ParquetFault("it does not end as a Parquet file does; it is cut, or something else".to_owned());
    let mut end = [0; 8];
    file.reader(bytes.checked_sub(12).ok_or_else(no_footer)? + 4).read_exact(&mut end).map_err(failed)?;
    let [a, b, c, d, magic @ ..] = end;
    if &magic == b"PARE" {
        return Err(ParquetFault("its footer is encrypted".to_owned()));
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if &magic != b"PAR1" || length > bytes - 12 {
        return Err(no_footer());
    }
    if length > MAX_FOOTER_BYTES {
        return Err(ParquetFault(format!("its footer has {length} bytes, and at most {MAX_FOOTER_BYTES} are read")));
    }
    let mut footer = vec![0; length as usize];
    file.reader(bytes - 8 - length).read_exact(&mut footer).map_err(failed)?;
    match depth(&footer) {
        Ok(depth) if depth <= MAX_DEPTH => Ok(()),
        Ok(_) => Err(ParquetFault(format!("its columns are nested more than {MAX_DEPTH} levels deep"))),
        Err(Malformed) => Err(ParquetFault("its footer is damaged".to_owned())),
    }
}

/// Bytes that are not what they should be.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// Types of the compact protocol.
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// The depth of the schema in a footer, at most one more than is allowed.
fn depth(footer: &[u8]) -> Result<usize, Malformed> {
    let mut thrift = Thrift { bytes: footer };
    let mut deepest = 0;
    let mut id = 0;
    while let Some((field, kind)) = thrift.field(&mut id)? {
        if (field, kind) != (2, LIST) {
            thrift.skip(kind, 0)?;
            continue;
        }
        let (n, of) = thrift.list()?;
        if of != STRUCT {
            return Err(Malformed);
        }
        // How many children of each open element are still to come.
        let mut open: Vec<u64> = Vec::new();
        for _ in 0..n {
            while open.last() == Some(&0) {
                open.pop();
            }
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            open.push(thrift.n_children()?);
            deepest = deepest.max(open.len());
            if deepest > MAX_DEPTH {
                return Ok(deepest);
            }
        }
    }
    Ok(deepest)
}

struct Thrift<'b> {
    bytes: &'b [u8],
}

impl Thrift<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.bytes.split_first().ok_or(Malformed)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn pass(&mut self, n: u64) -> Result<(), Malformed> {
        self.bytes = usize::try_from(n).ok().and_then(|n| self.bytes.get(n..)).ok_or(Malformed)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The id and type of the next field of a struct; `None` at its end. `id` is that of the field before.
    fn field(&mut self, id: &mut i64) -> Result<Option<(i64, u8)>, Malformed> {
        let header = self.byte()?;
        if header == 0 {
            return Ok(None);
        }
        *id = if header >> 4 == 0 { self.signed()? } else { id.checked_add(i64::from(header >> 4)).ok_or(Malformed)? };
        Ok(Some((*id, header & 0xF)))
    }

    /// How many elements a list or set has, and their type.
    fn list(&mut self) -> Result<(u64, u8), Malformed> {
        let header = self.byte()?;
        let n = if header >> 4 == 15 { self.varint()? } else { u64::from(header >> 4) };
        Ok((n, header & 0xF))
    }

    /// Reads a `SchemaElement`; how many children follow it.
    fn n_children(&mut self) -> Result<u64, Malformed> {
        let (mut id, mut children) = (0, 0);
        while let Some((field, kind)) = self.field(&mut id)? {
            if field == 5 && matches!(kind, 3..=6) {
                children = u64::try_from(self.signed()?).map_err(|_| Malformed)?;
            } else {
                self.skip(kind, 0)?;
            }
        }
        Ok(children)
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Malformed> {
        if depth > MAX_SKIPPED {
            return Err(Malformed);
        }
        match kind {
            1 | 2 => Ok(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.pass(8),
            UUID => self.pass(16),
            BINARY => {
                let n = self.varint()?;
                self.pass(n)
            }
            LIST | SET => {
                let (n, of) = self.list()?;
                (0..n).try_for_each(|_| self.skip_element(of, depth))
            }
            MAP => {
                let n = self.varint()?;
                let of = if n == 0 { 0 } else { self.byte()? };
                (0..n).try_for_each(|_| self.skip_element(of >> 4, depth).and_then(|()| self.skip_element(of & 0xF, depth)))
            }
            STRUCT => {
                let mut id = 0;
                while let Some((_, kind)) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Malformed),
        }
    }

    /// In lists and maps a boolean is a byte of its own.
    fn skip_element(&mut self, kind: u8, depth: usize) -> Result<(), Malformed> {
        if matches!(kind, 1 | 2) { self.pass(1) } else { self.skip(kind, depth + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A footer with a schema of so many elements, each the child of the one before.
    fn chain(n: usize) -> Vec<u8> {
        // Field 1 (version, i32) = 1; field 2, a list of structs.
        let mut bytes = vec![0x15, 0x02, 0x19, 0xFC];
        let mut rest = n as u64;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        for i in 0..n {
            // Field 4 (name) = "a"; field 5 (children) = 1, or 0 in the last; the end.
            bytes.extend([0x48, 0x01, b'a', 0x15, if i + 1 == n { 0 } else { 2 }, 0]);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn the_depth_is_that_of_the_longest_chain() {
        for n in [1, 2, 100] {
            assert_eq!(depth(&chain(n)), Ok(n));
        }
        assert_eq!(depth(&chain(1_000_000)), Ok(101));
        assert_eq!(depth(&chain(3)[..9]), Err(Malformed));
        // A root with two children, the first with one: 3 levels.
        let element = |children: u8| [0x48, 0x01, b'a', 0x15, children * 2, 0];
        let bytes = [&[0x15, 0x02, 0x19, 0x4C][..], &element(2), &element(1), &element(0), &element(0), &[0]].concat();
        assert_eq!(depth(&bytes), Ok(3));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(depth(&bytes).is_ok_and(|depth| depth <= MAX_DEPTH + 1) || depth(&bytes) == Err(Malformed));
        }
    }
}
