//! Which keys are allowed, checked in one place so that all stores allow the same.
//!
//! A key is `/`-separated segments of `[A-Za-z0-9._-]`. No segment is empty or starts with a dot, which
//! rules out `.`, `..` and every store's private folders. So a key is a safe relative path everywhere.

/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 512;
/// Most bytes of one segment (the limit of file names on Linux).
pub const MAX_SEGMENT_BYTES: usize = 255;

/// Whether a key is allowed; what is wrong with it, if not.
pub fn check(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    check_length(key)?;
    key.split('/').try_for_each(check_segment)
}

/// Whether a prefix may be asked for: the beginning of an allowed key, or nothing. It may end within a
/// segment or after a `/`.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    check_length(prefix)?;
    let (folders, last) = split_prefix(prefix);
    if let Some(folders) = folders.strip_suffix('/') {
        folders.split('/').try_for_each(check_segment)?;
    }
    if last.is_empty() { Ok(()) } else { check_segment(last) }
}

/// The folders of a prefix (empty or with a `/` at the end), and the beginning of the name in the last one.
pub fn split_prefix(prefix: &str) -> (&str, &str) {
    prefix.split_at(prefix.rfind('/').map_or(0, |at| at + 1))
}

/// Whether a name may be a segment of a key.
pub fn is_segment(name: &str) -> bool {
    check_segment(name).is_ok()
}

fn check_length(key: &str) -> Result<(), String> {
    match key.len() {
        0..=MAX_KEY_BYTES => Ok(()),
        length => Err(format!("it has {length} bytes; at most {MAX_KEY_BYTES} are possible")),
    }
}

fn check_segment(segment: &str) -> Result<(), String> {
    if segment.is_empty() {
        return Err("a segment is empty (a / at either end, or two in a row)".to_owned());
    }
    if segment.starts_with('.') {
        return Err(format!("the segment {segment:?} starts with a dot"));
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err(format!("a segment has {} bytes; at most {MAX_SEGMENT_BYTES} are possible", segment.len()));
    }
    match segment.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
        Some(bad) => Err(format!("the character {bad:?} is not allowed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_allowed_keys_are_allowed() {
        let key = "repositories/0192-a/objects/pack/pack-1.pack";
        for end in 0..=key.len() {
            check_prefix(&key[..end]).unwrap();
        }
        for bad in ["/", "a//", "../", ".staging", "a/.b", "a b", "ä"] {
            check_prefix(bad).unwrap_err();
        }
        assert_eq!(split_prefix("a/b"), ("a/", "b"));
        assert_eq!(split_prefix("a/"), ("a/", ""));
        assert_eq!(split_prefix("a"), ("", "a"));
    }
}
