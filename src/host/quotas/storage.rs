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
    /// Takes over a count of the region. Reservations stay.
    pub fn count(&mut self, counted: &RegionUsage) {
        for repository in self.repositories.values_mut() {
            repository.git.used = 0;
            repository.lfs.used = 0;
            repository.exists = false;
        }
        for (id, one) in &counted.repositories {
            let repository = self.repositories.entry(*id).or_default();
            repository.git.used = one.bytes;
            repository.lfs.used = one.lfs_bytes;
            repository.exists = true;
        }
        self.repositories.retain(|_, one| !one.is_nothing());
        let total = counted.total();
        self.git.used = total.bytes;
        self.lfs.used = total.lfs_bytes;
        self.is_counted = true;
    }

    /// Number of repositories; `None` before the first count.
    pub fn repositories(&self) -> Option<u64> {
        self.is_counted.then(|| self.repositories.values().filter(|one| one.exists).count() as u64)
    }

    /// Sets the bytes of a repository's packs, which its manifest tells at each push. A repository without packs may not
    /// exist yet.
    pub fn set_held(&mut self, id: RepositoryId, bytes: u64) {
        if bytes == 0 && !self.repositories.contains_key(&id) {
            return;
        }
        let repository = self.repositories.entry(id).or_default();
        repository.exists |= bytes > 0;
        let known = &mut repository.git.used;
        self.git.used = self.git.used.saturating_sub(*known).saturating_add(bytes);
        *known = bytes;
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
            (id(*number), RepositoryUsage { bytes: *bytes, lfs_objects: 1, lfs_bytes: *lfs_bytes })
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
        storage.set_held(id(1), 130);
        assert_eq!(storage.usage(id(1), Kind::Git), Usage { repository: 130, region: Some(180) });
        storage.reserve(id(2), Kind::Lfs, 7);
        storage.end(id(2), Kind::Lfs, 7, false);
        assert_eq!(storage.usage(id(2), Kind::Lfs), Usage { repository: 0, region: Some(10) });
        // A push that creates a repository and fails leaves nothing, one that succeeds a repository.
        storage.set_held(id(3), 0);
        for kept in [false, true] {
            storage.reserve(id(3), Kind::Git, 5);
            assert_eq!(storage.repositories(), Some(2));
            storage.end(id(3), Kind::Git, 5, kept);
        }
        assert_eq!(storage.repositories(), Some(3));
        // Consolidation made it smaller, and a repository was deleted.
        storage.set_held(id(1), 90);
        storage.count(&counted(&[(1, 90, 10)]));
        assert_eq!((storage.repositories(), storage.used(Kind::Git)), (Some(1), Some(90)));
    }
}
