//! Calls that tests make, and their outcomes.

use crate::authenticate::AuthenticationError;
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
