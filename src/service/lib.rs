//! Everything that works on a configuration: opening its stores ([`open`]), [`events`] in and out, [`delivery`] of what
//! they announce, and what delivers without being asked: the long-running [`worker`] and the function ([`lambda`]).

pub mod delivery;
pub mod events;
pub mod lambda;
pub mod open;
pub mod worker;
