//! Calls that tests make, and their outcomes.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::authentication_error::AuthenticationError;
use crate::sigv4::SignatureError;
use crate::tests::clients::Sent;
use crate::tests::world::{ACCOUNT, World};

pub(crate) const REPOSITORY: &str = "/v1/repos/MyDemoRepo";

pub(crate) type Outcome = std::result::Result<String, AuthenticationError>;

pub(crate) fn try_as(world: &World, sent: &Sent) -> Outcome {
    sent.with(|parts| world.host.authenticate(parts)).map(|who| who.principal.arn())
}

pub(crate) fn signature(error: SignatureError) -> Outcome {
    Err(AuthenticationError::Signature(error))
}

pub(crate) fn jane() -> Outcome {
    Ok(format!("arn:aws:iam::{ACCOUNT}:user/jane"))
}

pub(crate) fn call() -> Sent {
    let body = b"Action=GetUser&Version=2010-05-08";
    Sent::new("POST", "/", "", body).header("content-type", "application/x-www-form-urlencoded")
}

/// Tries a request from an address of its own, so that none is refused for the failures of others.
pub(crate) fn try_anew(world: &World, sent: &Sent) -> Outcome {
    static NEXT: AtomicU32 = AtomicU32::new(0x0a00_0000);
    let source = IpAddr::V4(NEXT.fetch_add(1, Ordering::Relaxed).into());
    try_as(world, &Sent { source, ..sent.clone() })
}
