//! Application of deltas (gitformat-pack, "Deltified representation"). The implementation in gix is private.

/// Delta with a parsed header.
#[derive(Clone, Copy)]
pub(crate) struct Delta<'a> {
    /// Required size of the base in bytes.
    pub(crate) base_size: u64,
    /// Size of the result in bytes.
    pub(crate) result_size: u64,
    instructions: &'a [u8],
}

impl<'a> Delta<'a> {
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, &'static str> {
        let (base_size, data) = size(data)?;
        let (result_size, instructions) = size(data)?;
        Ok(Delta { base_size, result_size, instructions })
    }

    /// Writes the result to `out` and replaces its content. Reserves `result_size` bytes, which the caller must check
    /// first; the memory is touched only as far as instructions fill it.
    pub(crate) fn apply(&self, base: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        let size = usize::try_from(self.result_size).map_err(|_| "it is larger than the address space")?;
        out.clear();
        out.try_reserve(size).map_err(|_| "no memory for the object")?;
        self.apply_to(
            base,
            |error| error,
            |piece| {
                out.extend_from_slice(piece);
                Ok(())
            },
        )
    }

    /// Passes the result to `each` piece by piece, in order. `bad` wraps the description of a fault in an error.
    pub(crate) fn apply_to<E>(
        &self,
        base: &[u8],
        bad: impl Fn(&'static str) -> E,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if base.len() as u64 != self.base_size {
            return Err(bad("the delta was made for a base of another size"));
        }
        let mut left = self.result_size;
        let mut data = self.instructions;
        while let Some((&code, rest)) = data.split_first() {
            let piece;
            (piece, data) = if code & 0x80 != 0 {
                let (start, length, rest) = copy_arguments(code, rest).map_err(&bad)?;
                let piece = start.checked_add(length).and_then(|end| base.get(start..end));
                (piece.ok_or_else(|| bad("the delta copies from beyond its base"))?, rest)
            } else if code != 0 {
                rest.split_at_checked(usize::from(code)).ok_or_else(|| bad("the delta is cut off"))?
            } else {
                return Err(bad("the delta has an instruction that does not exist"));
            };
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| bad("the delta makes more than it says"))?;
            each(piece)?;
        }
        if left == 0 { Ok(()) } else { Err(bad("the delta makes less than it says")) }
    }
}

/// Parses the arguments of a copy instruction: up to four bytes of offset, up to three of size.
#[inline]
fn copy_arguments(code: u8, mut data: &[u8]) -> Result<(usize, usize, &[u8]), &'static str> {
    let mut start = 0;
    let mut length = 0;
    for bit in 0..7 {
        if code & (1 << bit) != 0 {
            let (&byte, rest) = data.split_first().ok_or("the delta is cut off")?;
            data = rest;
            if bit < 4 {
                start |= usize::from(byte) << (8 * bit);
            } else {
                length |= usize::from(byte) << (8 * (bit - 4));
            }
        }
    }
    Ok((start, if length == 0 { 0x10000 } else { length }, data))
}

/// Parses a size: seven bits per byte, the lowest first.
fn size(data: &[u8]) -> Result<(u64, &[u8]), &'static str> {
    let mut value = 0u64;
    for (at, &byte) in data.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = 7 * at as u32;
        if shift >= u64::BITS || (bits << shift) >> shift != bits {
            return Err("the delta declares a size beyond 64 bits");
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok((value, &data[at + 1..]));
        }
    }
    Err("the delta is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        Delta::parse(delta)?.apply(base, &mut out).map(|()| out)
    }

    #[test]
    fn copies_and_inserts() {
        assert_eq!(apply(b"hello world", b"\x0b\x08\x91\x06\x05\x03abc").unwrap(), b"worldabc");
        let base = vec![5; 0x10000];
        assert_eq!(apply(&base, b"\x80\x80\x04\x80\x80\x04\x80").unwrap(), base);
    }

    #[test]
    fn lies_are_errors() {
        for (delta, reason) in [
            (&b""[..], "the delta is cut off"),
            (b"\x03\x01\x01a", "the delta was made for a base of another size"),
            (b"\x02\x02\x01a", "the delta makes less than it says"),
            (b"\x02\x01\x02ab", "the delta makes more than it says"),
            (b"\x02\x05\x91\x01\x05", "the delta copies from beyond its base"),
            (b"\x02\x05\x05abc", "the delta is cut off"),
            (b"\x02\x05\x91\x01", "the delta is cut off"),
            (b"\x02\x05\x00", "the delta has an instruction that does not exist"),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "the delta declares a size beyond 64 bits"),
        ] {
            assert_eq!(apply(b"ab", delta), Err(reason), "{delta:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            base in proptest::collection::vec(any::<u8>(), 0..50),
            delta in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            if Delta::parse(&delta).is_ok_and(|delta| delta.result_size < 1 << 20) {
                let _ = apply(&base, &delta);
            }
        }
    }
}
