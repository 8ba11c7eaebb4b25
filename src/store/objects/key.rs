//! Validation of object keys, shared by all stores.
//!
//! A key consists of `/`-separated segments of `[A-Za-z0-9._-]`. No segment is empty or starts with a dot, which
//! excludes `.`, `..` and the private folders of stores. Every key is therefore a safe relative path.

/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 512;
/// Most bytes of a segment (the limit of file names on Linux).
pub const MAX_SEGMENT_BYTES: usize = 255;

/// Validates a key. Returns the violated rule.
pub fn check(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    check_length(key)?;
    key.split('/').try_for_each(check_segment)
}

/// Validates a prefix of a listing: empty, or the beginning of a valid key. A prefix may end within a segment or after
/// a `/`.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    check_length(prefix)?;
    let (folders, last) = split_prefix(prefix);
    if let Some(folders) = folders.strip_suffix('/') {
        folders.split('/').try_for_each(check_segment)?;
    }
    if last.is_empty() { Ok(()) } else { check_segment(last) }
}

/// Splits a prefix into its folders (empty or with a trailing `/`) and the beginning of the last segment.
pub fn split_prefix(prefix: &str) -> (&str, &str) {
    prefix.split_at(prefix.rfind('/').map_or(0, |at| at + 1))
}

/// Returns true if a name is a valid segment of a key.
pub fn is_segment(name: &str) -> bool {
    check_segment(name).is_ok()
}

fn check_length(key: &str) -> Result<(), String> {
    match key.len() {
        0..=MAX_KEY_BYTES => Ok(()),
        length => Err(format!("the key has {length} bytes; at most {MAX_KEY_BYTES} are allowed")),
    }
}

fn check_segment(segment: &str) -> Result<(), String> {
    if segment.is_empty() {
        return Err("a segment is empty (a leading, trailing or double /)".to_owned());
    }
    if segment.starts_with('.') {
        return Err(format!("the segment {segment:?} starts with a dot"));
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err(format!("a segment has {} bytes; at most {MAX_SEGMENT_BYTES} are allowed", segment.len()));
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
