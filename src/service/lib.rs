//! Everything that works on a configuration: opening its stores ([`open`]), [`events`] in and out, [`delivery`] of what
//! they announce, and the processes that deliver without end ([`worker`]).

pub mod delivery;
pub mod events;
pub mod open;
pub mod worker;
