//! The client side of Git's protocol against real Git and against gitferry's own services, with state (as over SSH)
//! and without (as over HTTP).

mod damage;
mod fetching;
mod knowing;
mod listing;
mod own;
mod pushing;
mod refused;
mod scripted;
