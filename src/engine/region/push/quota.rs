//! Room that pushes may still take. The quotas are the caller's; this module asks for their decisions.

use crate::ledger::head::RepositoryId;

/// A pack of a push that asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRoom {
    /// Repository of the push.
    pub repository: RepositoryId,
    /// Bytes of its live packs before the push.
    pub held: u64,
    /// Generation of the manifest that lists them.
    pub generation: u64,
}

/// Decides on the bytes that pushes add to a region. Without I/O.
pub trait StorageQuota: std::fmt::Debug + Send + Sync {
    /// Most bytes that a pack may have at present; `u64::MAX` without a limit.
    fn room(&self, room: PackRoom) -> u64;

    /// Reserves room for a pack of this many bytes.
    ///
    /// # Errors
    /// The reason in words for the client: it names the quota, its limit, the usage, and whom to ask.
    fn reserve(&self, room: PackRoom, bytes: u64) -> Result<Reserved, String>;
}

/// Room that is reserved for a pack until it is dropped, or for good once it is kept.
#[derive(Debug)]
pub struct Reserved(Option<Box<dyn Reservation>>);

/// End of a reservation that [`StorageQuota::reserve`] made.
pub trait Reservation: std::fmt::Debug + Send {
    /// Ends the reservation. `kept` if the pack stays.
    fn end(self: Box<Self>, kept: bool);
}

impl Reserved {
    /// Wraps a reservation.
    pub fn new(reservation: impl Reservation + 'static) -> Self {
        Reserved(Some(Box::new(reservation)))
    }

    /// Turns the reservation into usage: the pack has been committed.
    pub fn keep(mut self) {
        if let Some(reservation) = self.0.take() {
            reservation.end(true);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(reservation) = self.0.take() {
            reservation.end(false);
        }
    }
}
