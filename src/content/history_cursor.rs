//! Text of what is left of a history after a page, for the tokens of the API. The caller seals or signs the text.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gix::ObjectId;

use crate::history::Waiting;
use crate::limits::{MAX_HISTORY_WIDTH, MAX_VERSION_CHILDREN};
use crate::path::RepoPath;

/// Writes one line for each waiting commit: its id, its path in Base64, and the ids of newer versions.
pub fn encode(rest: &[Waiting]) -> String {
    let line = |Waiting { commit, path, children }: &Waiting| {
        let path = URL_SAFE_NO_PAD.encode(path.as_bstr());
        let children: Vec<String> = children.iter().map(ObjectId::to_string).collect();
        format!("{commit} {path} {}\n", children.join(","))
    };
    rest.iter().map(line).collect()
}

/// Reads the text of [`encode`]; `None` for any other text.
pub fn decode(text: &str) -> Option<Vec<Waiting>> {
    let rest: Vec<Waiting> = text.lines().take(MAX_HISTORY_WIDTH + 1).map(waiting).collect::<Option<_>>()?;
    (!rest.is_empty() && rest.len() <= MAX_HISTORY_WIDTH).then_some(rest)
}

fn waiting(line: &str) -> Option<Waiting> {
    let [commit, path, children] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let commit = ObjectId::from_hex(commit.as_bytes()).ok()?;
    let path = RepoPath::to_read(URL_SAFE_NO_PAD.decode(path).ok()?).ok()?;
    let ids = children.split(',').filter(|id| !id.is_empty()).take(MAX_VERSION_CHILDREN);
    let children: BTreeSet<ObjectId> = ids.map(|id| ObjectId::from_hex(id.as_bytes()).ok()).collect::<Option<_>>()?;
    Some(Waiting { commit, path, children })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_others_are_refused() {
        let id = ObjectId::null(gix::hash::Kind::Sha1);
        let waiting = |path: &str, children: &[ObjectId]| Waiting {
            commit: id,
            path: RepoPath::to_read(path).unwrap(),
            children: children.iter().copied().collect(),
        };
        let rest = vec![waiting("a b/c", &[]), waiting("x", &[id])];
        assert_eq!(decode(&encode(&rest)), Some(rest));
        for text in ["", "x", "12 YQ ", &format!("{id} !! "), &format!("{id} YQ 12"), &format!("{id} Li4 ")] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
