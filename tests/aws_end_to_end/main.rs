//! Everything on AWS, end to end: Git pushes to a host on S3 and DynamoDB; its change becomes an event on a bus; a
//! rule sends that to a queue; a worker, a function or a task takes it and delivers; Git clones from the other
//! region. And what becomes of that when events are lost, processes die, services refuse and credentials end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod credentials;
mod events;
mod killed;
mod lambda;
mod one_shot;
mod place;
mod pushed;
mod throttled;

#[path = "../support/aws.rs"]
mod aws;
#[path = "../host/pair.rs"]
mod pair;
#[path = "../support/proxy.rs"]
mod proxy;
#[path = "../support/queues.rs"]
mod queues;
#[path = "../support/running.rs"]
mod running;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/waiting.rs"]
mod waiting;

use support::git;
