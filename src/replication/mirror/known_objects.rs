//! Objects that the source of a pass has although none of its refs names them. No I/O.

use std::collections::HashSet;

use gix::ObjectId;

use gitferry_git::receive_pack::Command;

/// Objects that the source is known or assumed to have.
#[derive(Debug)]
pub struct KnownObjects {
    known: HashSet<ObjectId>,
    /// Objects that only the checkpoint confirms; a fetch has to prove that the source has them.
    assumed: HashSet<ObjectId>,
}

impl KnownObjects {
    /// `known` are objects that the source has confirmed, `assumed` those that only the checkpoint confirms.
    pub fn new(known: HashSet<ObjectId>, assumed: HashSet<ObjectId>) -> Self {
        KnownObjects { known, assumed }
    }

    /// Objects that the source has confirmed.
    pub fn known(&self) -> &HashSet<ObjectId> {
        &self.known
    }

    /// Adds objects that the source has confirmed or sent.
    pub fn add(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        self.known.extend(ids);
    }

    /// Values that these commands replace, and that the source is assumed to have.
    pub fn unproven(&self, commands: &[Command]) -> Vec<ObjectId> {
        let moved = commands.iter().filter(|command| command.new.is_some()).filter_map(|command| command.old);
        moved.filter(|old| self.assumed.contains(old) && !self.known.contains(old)).collect()
    }

    /// First of some objects that the source has not confirmed.
    pub fn first_unknown(&self, ids: &[ObjectId]) -> Option<ObjectId> {
        ids.iter().find(|id| !self.known.contains(*id)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes_or_panic(&[byte; 20])
    }

    #[test]
    fn an_assumed_value_is_proven_once_where_it_is_replaced() {
        let mut objects = KnownObjects::new([id(1)].into(), [id(2), id(3)].into());
        let command =
            |old: u8, new: Option<u8>| Command { name: "refs/heads/a".into(), old: Some(id(old)), new: new.map(id) };
        let commands = [command(1, Some(9)), command(2, Some(9)), command(3, None), command(4, Some(9))];
        assert_eq!(objects.unproven(&commands), [id(2)], "known, assumed, deleted, unknown");
        assert_eq!(objects.first_unknown(&[id(1), id(2)]), Some(id(2)));
        objects.add([id(2)]);
        assert!(objects.unproven(&commands).is_empty());
        assert_eq!(objects.first_unknown(&[id(1), id(2)]), None);
    }
}
