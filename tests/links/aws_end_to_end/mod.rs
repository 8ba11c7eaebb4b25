//! Everything on AWS, end to end: Git pushes to a host on S3 and DynamoDB; its change becomes an event on a bus; a
//! rule sends that to a queue; a worker, a function or a task takes it and delivers; Git clones from the other
//! region. And what becomes of that when events are lost, processes die, services refuse and credentials end.

mod credentials;
mod events;
mod killed;
mod lambda;
mod one_shot;
mod place;
mod pushed;
mod throttled;

use gitferry_test_support::git;
