//! Everything that works on a configuration: which stores there are ([`open`]), events in and out, the worker, the
//! Lambda function.

pub mod events;
pub mod open;
pub mod worker;
