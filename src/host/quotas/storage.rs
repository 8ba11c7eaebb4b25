//! Storage that the repositories of a region take, as this host knows it. Pure.

use std::collections::HashMap;

use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::usage::RegionUsage;

/// Kind of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Packs of Git.
    Git,
    /// Objects of Git LFS.
    Lfs,
}

/// Bytes of one kind, used and reserved.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    used: u64,
    reserved: u64,
}

impl Bytes {
    fn all(self) -> u64 {
        self.used.saturating_add(self.reserved)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Repository {
    git: Bytes,
    lfs: Bytes,
    /// Generation of the manifest that `git` is known from; each push that this host commits raises it by one. What is read
    /// from an older manifest lacks a push.
    generation: u64,
    /// True if this host has stored something in it since the last count began.
    stored_since: bool,
    /// Bytes of LFS objects that were stored since then, and that the count may lack.
    lfs_since: u64,
    /// True if the last count of the region had it, or this host has stored something in it since.
    exists: bool,
}

impl Repository {
    /// Returns true if there is nothing to remember about it.
    fn is_nothing(&self) -> bool {
        !self.exists && self.git.reserved == 0 && self.lfs.reserved == 0
    }

    fn of(&mut self, kind: Kind) -> &mut Bytes {
        match kind {
            Kind::Git => &mut self.git,
            Kind::Lfs => &mut self.lfs,
        }
    }

    /// Takes over the bytes of packs, unless the manifest that lists them lacks a push.
    fn set_git(&mut self, bytes: u64, generation: u64) {
        if generation >= self.generation {
            self.git.used = bytes;
            self.generation = generation;
        }
    }
}

/// Storage of a region: the last count, and what this host has added since.
#[derive(Debug, Default)]
pub struct Storage {
    repositories: HashMap<RepositoryId, Repository>,
    git: Bytes,
    lfs: Bytes,
    is_counted: bool,
}

/// Usage of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Repository that asks for room.
    pub repository: u64,
    /// All repositories; `None` before the first count of the region.
    pub region: Option<u64>,
}

impl Storage {
    /// Begins a count of the region.
    pub fn begin_count(&mut self) {
        for repository in self.repositories.values_mut() {
            repository.stored_since = false;
            repository.lfs_since = 0;
        }
    }

    /// Takes over a count of the region, with what was stored since it began. Reservations stay.
    pub fn count(&mut self, counted: &RegionUsage) {
        self.repositories.retain(|id, one| {
            // The count may lack a repository that was created while it ran.
            one.exists = counted.repositories.contains_key(id) || one.stored_since;
            !one.is_nothing()
        });
        for (id, one) in &counted.repositories {
            let repository = self.repositories.entry(*id).or_default();
            repository.set_git(one.bytes, one.generation);
            repository.lfs.used = one.lfs_bytes.saturating_add(repository.lfs_since);
            repository.exists = true;
        }
        let sum = |kind: fn(&Repository) -> u64| self.repositories.values().map(kind).fold(0, u64::saturating_add);
        self.git.used = sum(|repository| repository.git.used);
        self.lfs.used = sum(|repository| repository.lfs.used);
        self.is_counted = true;
    }

    /// Number of repositories; `None` before the first count.
    pub fn repositories(&self) -> Option<u64> {
        self.is_counted.then(|| self.repositories.values().filter(|one| one.exists).count() as u64)
    }

    /// Sets the bytes of a repository's packs, which its manifest of this generation tells at each push. A repository
    /// without packs may not exist yet.
    pub fn set_held(&mut self, id: RepositoryId, bytes: u64, generation: u64) {
        if bytes == 0 && !self.repositories.contains_key(&id) {
            return;
        }
        let repository = self.repositories.entry(id).or_default();
        repository.exists |= bytes > 0;
        let before = repository.git.used;
        repository.set_git(bytes, generation);
        self.git.used = self.git.used.saturating_sub(before).saturating_add(repository.git.used);
    }

    /// Usage with all reservations.
    pub fn usage(&mut self, id: RepositoryId, kind: Kind) -> Usage {
        let region = match kind {
            Kind::Git => self.git,
            Kind::Lfs => self.lfs,
        };
        let repository = self.repositories.get(&id).copied().unwrap_or_default().of(kind).all();
        Usage { repository, region: self.is_counted.then_some(region.all()) }
    }

    /// Bytes of all repositories, without reservations; `None` before the first count.
    pub fn used(&self, kind: Kind) -> Option<u64> {
        let bytes = match kind {
            Kind::Git => self.git,
            Kind::Lfs => self.lfs,
        };
        self.is_counted.then_some(bytes.used)
    }

    /// Reserves bytes.
    pub fn reserve(&mut self, id: RepositoryId, kind: Kind, bytes: u64) {
        self.change(id, kind, |one| one.reserved = one.reserved.saturating_add(bytes));
    }

    /// Ends a reservation. Bytes that are `kept` are used from now on.
    pub fn end(&mut self, id: RepositoryId, kind: Kind, bytes: u64, kept: bool) {
        self.change(id, kind, |one| {
            one.reserved = one.reserved.saturating_sub(bytes);
            if kept {
                one.used = one.used.saturating_add(bytes);
            }
        });
        let repository = self.repositories.entry(id).or_default();
        repository.exists |= kept;
        repository.stored_since |= kept;
        match kind {
            Kind::Git if kept => repository.generation += 1,
            Kind::Lfs if kept => repository.lfs_since = repository.lfs_since.saturating_add(bytes),
            _ => {}
        }
        if repository.is_nothing() {
            self.repositories.remove(&id);
        }
    }

    fn change(&mut self, id: RepositoryId, kind: Kind, change: impl Fn(&mut Bytes)) {
        change(self.repositories.entry(id).or_default().of(kind));
        match kind {
            Kind::Git => change(&mut self.git),
            Kind::Lfs => change(&mut self.lfs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_engine::region::usage::RepositoryUsage;
    use uuid::Uuid;

    fn id(number: u128) -> RepositoryId {
        RepositoryId(Uuid::from_u128(number))
    }

    fn counted(all: &[(u128, u64, u64)]) -> RegionUsage {
        let of = |(number, bytes, lfs_bytes): &(u128, u64, u64)| {
            (id(*number), RepositoryUsage { generation: 1, bytes: *bytes, lfs_objects: 1, lfs_bytes: *lfs_bytes })
        };
        RegionUsage { repositories: all.iter().map(of).collect(), unreadable: 0 }
    }

    #[test]
    fn reservations_count_until_they_end() {
        let mut storage = Storage::default();
        assert_eq!(storage.usage(id(1), Kind::Git), Usage { repository: 0, region: None });
        storage.count(&counted(&[(1, 100, 10), (2, 50, 0)]));
        assert_eq!(storage.repositories(), Some(2));
        storage.reserve(id(1), Kind::Git, 30);
        assert_eq!(storage.usage(id(1), Kind::Git), Usage { repository: 130, region: Some(180) });
        // A count in the middle of a push, and one after it.
        storage.count(&counted(&[(1, 100, 10), (2, 50, 0)]));
        assert_eq!(storage.usage(id(1), Kind::Git), Usage { repository: 130, region: Some(180) });
        storage.end(id(1), Kind::Git, 30, true);
        // A push that read the manifest before, and a count that did, lack the pack; one that reads it now has it.
        storage.set_held(id(1), 100, 1);
        assert_eq!(storage.usage(id(1), Kind::Git), Usage { repository: 130, region: Some(180) });
        storage.count(&counted(&[(1, 100, 10), (2, 50, 0)]));
        storage.set_held(id(1), 130, 2);
        assert_eq!(storage.usage(id(1), Kind::Git), Usage { repository: 130, region: Some(180) });
        storage.reserve(id(2), Kind::Lfs, 7);
        storage.end(id(2), Kind::Lfs, 7, false);
        assert_eq!(storage.usage(id(2), Kind::Lfs), Usage { repository: 0, region: Some(10) });
        // A push that creates a repository and fails leaves nothing, one that succeeds a repository.
        storage.begin_count();
        storage.set_held(id(3), 0, 0);
        for kept in [false, true] {
            storage.reserve(id(3), Kind::Git, 5);
            assert_eq!(storage.repositories(), Some(2));
            storage.end(id(3), Kind::Git, 5, kept);
        }
        assert_eq!(storage.repositories(), Some(3));
        storage.reserve(id(2), Kind::Lfs, 7);
        storage.end(id(2), Kind::Lfs, 7, true);
        // The count in progress has not seen them.
        storage.count(&counted(&[(1, 130, 10), (2, 50, 0)]));
        assert_eq!((storage.repositories(), storage.used(Kind::Git)), (Some(3), Some(185)));
        assert_eq!(storage.used(Kind::Lfs), Some(17));
        // Consolidation made one smaller, and the others were deleted.
        storage.begin_count();
        storage.set_held(id(1), 90, 3);
        storage.count(&counted(&[(1, 90, 10)]));
        assert_eq!((storage.repositories(), storage.used(Kind::Git)), (Some(1), Some(90)));
    }
}
