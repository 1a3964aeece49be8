//! Reading the wire format of protocol buffers, as far as a SentencePiece model needs it.
//!
//! Reference: the encoding chapter of the Protocol Buffers documentation. Nothing is copied and nothing is read beyond the bytes given.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    /// Its number.
    pub(crate) number: u32,
    /// Its content.
    pub(crate) value: Value<'a>,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// An integer, boolean or enumeration.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

/// What is wrong with a message, and at which of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The byte, from 0.
    pub(crate) at: usize,
    /// What is wrong there.
    pub(crate) found: &'static str,
}

/// The fields of a message, in order; nothing comes after a fault.
pub(crate) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, Fault>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = message.len() - rest.len();
        let field = field(&mut rest).map_err(|found| Fault { at, found });
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, &'static str> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number)).ok_or("a field number out of range")?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(chunk(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok().filter(|&length| length <= rest.len());
            let (bytes, behind) = rest.split_at(length.ok_or("a length beyond the end")?);
            *rest = behind;
            Value::Bytes(bytes)
        }
        5 => Value::Fixed32(chunk(rest)?),
        _ => return Err("a kind of field that does not exist"),
    };
    Ok(Field { number, value })
}

fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let Some((&byte, behind)) = rest.split_first() else { return Err("an end within a number") };
        *rest = behind;
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return Err("a number of more than 64 bits");
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("a number of more than 64 bits")
}

fn chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let Some((bytes, behind)) = rest.split_first_chunk::<N>() else { return Err("an end within a number") };
    *rest = behind;
    Ok(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Result<Field<'_>, Fault> {
        fields(bytes).next().unwrap()
    }

    #[test]
    fn each_kind_of_field_is_read() {
        let field = |number, value| Ok(Field { number, value });
        assert_eq!(one(&[0x08, 0x96, 0x01]), field(1, Value::Varint(150)));
        assert_eq!(one(&[0x12, 2, b'h', b'i']), field(2, Value::Bytes(b"hi")));
        assert_eq!(one(&[0x1D, 1, 2, 3, 4]), field(3, Value::Fixed32([1, 2, 3, 4])));
        assert_eq!(one(&[0x19, 1, 2, 3, 4, 5, 6, 7, 8]), field(3, Value::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])));
        assert_eq!(one(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), field(1, Value::Varint(u64::MAX)));
        assert_eq!(fields(&[8, 1, 8, 2]).count(), 2);
        assert_eq!(fields(&[]).count(), 0);
    }

    #[test]
    fn a_fault_is_told_with_its_place_and_ends_the_message() {
        let fault = |found| Err(Fault { at: 0, found });
        assert_eq!(one(&[0x12, 3, b'h', b'i']), fault("a length beyond the end"));
        assert_eq!(one(&[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), fault("a length beyond the end"));
        assert_eq!(one(&[0x08]), fault("an end within a number"));
        assert_eq!(one(&[0x1D, 1]), fault("an end within a number"));
        assert_eq!(one(&[0x0B]), fault("a kind of field that does not exist"));
        assert_eq!(one(&[0x00, 1]), fault("a field number out of range"));
        assert_eq!(one(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]), fault("a number of more than 64 bits"));
        assert_eq!(one(&[0xFF; 11]), fault("a number of more than 64 bits"));
        assert_eq!(
            fields(&[8, 1, 0x0B, 8, 1]).collect::<Vec<_>>()[1..],
            [Err(Fault { at: 2, found: "a kind of field that does not exist" })]
        );
    }
}
