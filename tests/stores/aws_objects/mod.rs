//! Objects in S3: what is sent, what is believed, what is copied without passing here. Against the emulator;
//! what that cannot do (deny, redirect, fail half-way) is done to its answers on the wire.

mod consolidating;
mod creating;
mod encryption;
mod errors;
mod in_parts;
mod regions;
mod uploads;
mod wire;
