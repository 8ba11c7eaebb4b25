//! Parser for Git's configuration format that follows `config.c` byte by byte. A stricter parser would miss entries:
//! Git applies everything before the first syntax error.

/// Source of the input, on which Git's parsing depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A file, as in `git submodule`: a byte order mark is skipped.
    File,
    /// A buffer, as in `git fsck`: a byte order mark is an error, and byte 255 ends the input, because characters are
    /// signed there.
    Memory,
}

/// Syntax error. Entries before it have been passed to the callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Calls `each` with the name and value of every entry. Names are section, subsection and key separated by dots, with
/// section and key in lower case. The value is `None` for a key without `=`. As in Git, both end at the first NUL.
pub fn parse(data: &[u8], reading: Reading, mut each: impl FnMut(&[u8], Option<&[u8]>)) -> Result<(), Unreadable> {
    let data = match reading {
        Reading::File => data.strip_prefix(BYTE_ORDER_MARK).unwrap_or(data),
        Reading::Memory => data,
    };
    let mut input = Input { data, at: 0, reading, ended: false };
    let mut name = Vec::new();
    let mut stem = 0;
    let mut comment = false;
    loop {
        match input.next() {
            b'\n' if input.ended => return Ok(()),
            b'\n' => comment = false,
            _ if comment => {}
            byte if is_space(byte) => {}
            b'#' | b';' => comment = true,
            b'[' => {
                name = input.section()?;
                name.push(b'.');
                stem = name.len();
            }
            byte if byte.is_ascii_alphabetic() => {
                name.truncate(stem);
                name.push(byte.to_ascii_lowercase());
                let value = input.entry(&mut name)?;
                each(until_nul(&name), value.as_deref().map(until_nul));
            }
            _ => return Err(Unreadable),
        }
    }
}

/// Returns true for white space as Git defines it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

struct Input<'d> {
    data: &'d [u8],
    at: usize,
    reading: Reading,
    /// True once the end has been read, as a line break. More bytes follow if byte 255 was taken for the end.
    ended: bool,
}

impl Input<'_> {
    fn raw(&mut self) -> Option<u8> {
        let byte = self.data.get(self.at).copied()?;
        self.at += 1;
        (self.reading == Reading::File || byte != 0xff).then_some(byte)
    }

    /// Reads the next byte. CR LF reads as one line break; a lone CR is returned as is.
    fn next(&mut self) -> u8 {
        let byte = self.raw();
        if byte == Some(b'\r') {
            let before = self.at;
            match self.raw() {
                Some(b'\n') => return b'\n',
                Some(_) => self.at = before,
                // Git does not put this byte back.
                None => {}
            }
        }
        byte.unwrap_or_else(|| {
            self.ended = true;
            b'\n'
        })
    }

    /// Parses a section header after its `[`.
    fn section(&mut self) -> Result<Vec<u8>, Unreadable> {
        let mut name = Vec::new();
        loop {
            let byte = self.next();
            match byte {
                _ if self.ended => return Err(Unreadable),
                b']' if name.is_empty() => return Err(Unreadable),
                b']' => return Ok(name),
                byte if is_space(byte) => {
                    self.subsection(byte, &mut name)?;
                    return Ok(name);
                }
                byte if is_key(byte) || byte == b'.' => name.push(byte.to_ascii_lowercase()),
                _ => return Err(Unreadable),
            }
        }
    }

    /// Parses `"<subsection>"]` after the white space `byte`.
    fn subsection(&mut self, mut byte: u8, name: &mut Vec<u8>) -> Result<(), Unreadable> {
        while is_space(byte) {
            if byte == b'\n' {
                return Err(Unreadable);
            }
            byte = self.next();
        }
        if byte != b'"' {
            return Err(Unreadable);
        }
        name.push(b'.');
        loop {
            let mut byte = self.next();
            if byte == b'"' {
                break;
            }
            if byte == b'\\' {
                byte = self.next();
            }
            if byte == b'\n' {
                return Err(Unreadable);
            }
            name.push(byte);
        }
        if self.next() == b']' { Ok(()) } else { Err(Unreadable) }
    }

    /// Parses the rest of a key, which is appended to `name`, and its value.
    fn entry(&mut self, name: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut byte = self.next();
        while !self.ended && is_key(byte) {
            name.push(byte.to_ascii_lowercase());
            byte = self.next();
        }
        while matches!(byte, b' ' | b'\t') {
            byte = self.next();
        }
        match byte {
            b'\n' => Ok(None),
            b'=' => self.value().map(Some),
            _ => Err(Unreadable),
        }
    }

    fn value(&mut self) -> Result<Vec<u8>, Unreadable> {
        let mut value = Vec::new();
        let mut quoted = false;
        let mut comment = false;
        // Start of white space that is trimmed if nothing follows.
        let mut trimmed = None;
        loop {
            let mut byte = self.next();
            if byte == b'\n' {
                if quoted {
                    return Err(Unreadable);
                }
                value.truncate(trimmed.unwrap_or(value.len()));
                return Ok(value);
            }
            if comment {
                continue;
            }
            if is_space(byte) && !quoted {
                if !value.is_empty() {
                    trimmed.get_or_insert(value.len());
                    value.push(byte);
                }
                continue;
            }
            if !quoted && matches!(byte, b';' | b'#') {
                comment = true;
                continue;
            }
            trimmed = None;
            match byte {
                b'\\' => {
                    byte = match self.next() {
                        b'\n' => continue,
                        b't' => b'\t',
                        b'b' => 8,
                        b'n' => b'\n',
                        byte @ (b'\\' | b'"') => byte,
                        _ => return Err(Unreadable),
                    };
                    value.push(byte);
                }
                b'"' => quoted = !quoted,
                _ => value.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(text: &[u8], reading: Reading) -> (Vec<String>, bool) {
        let mut found = Vec::new();
        let readable = parse(text, reading, |name, value| {
            let value = value.map_or("none".into(), |value| value.escape_ascii().to_string());
            found.push(format!("{} {value}", name.escape_ascii()));
        });
        (found, readable.is_ok())
    }

    #[test]
    fn what_git_reads() {
        for (text, expected) in [
            (&b"[a]\n\tb = c\n"[..], &["a.b c"][..]),
            (b"[A.B]C=d", &["a.b.c d"]),
            (b"[a \"B.c\"]\r\n\rd = e # f\n\rG", &["a.B.c.d e", "a.B.c.g none"]),
            (b"[a \t\"\\x\\\"\"] b = \" c \" d  ; x\n", &["a.x\\\".b  c  d"]),
            (b"[a]b=c\\\n d\\t\\\"\ne = f\rg\r\n", &["a.b c d\\t\\\"", "a.e f\\rg"]),
            (b"b = c\n", &["b c"]),
            (b"[a \"x\0y\"]\nb = c\0d\n", &["a.x c"]),
        ] {
            let (found, readable) = entries(text, Reading::Memory);
            assert!(readable, "{}", text.escape_ascii());
            assert_eq!(found, expected, "{}", text.escape_ascii());
        }
        for text in
            ["[", "[a", "[a]b c", "[a \"b\n\"]", "[a\n\"b\"]", "[]", "[a]1=2", "[a]b=\"", "[a]b=\\x", "[a \"b\" ]"]
        {
            assert!(!entries(text.as_bytes(), Reading::Memory).1, "{text}");
        }
    }

    #[test]
    fn files_and_memory_differ() {
        let marked = b"\xef\xbb\xbf[a]b=c\n";
        assert_eq!(entries(marked, Reading::File), (vec!["a.b c".into()], true));
        assert_eq!(entries(marked, Reading::Memory), (vec![], false));
        let ended = b"#\xff\n[a]b=c\n";
        assert_eq!(entries(ended, Reading::File).0, ["a.b c"]);
        assert_eq!(entries(ended, Reading::Memory), (vec![], true));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            entries(&data, Reading::File);
            entries(&data, Reading::Memory);
        }
    }
}
