//! An account with its documents, its keys and a clock that tests set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gitferry_base::clock::Clock;
use gitferry_policy::{Request, evaluate};
use jiff::Timestamp;

use crate::account::Account;
use crate::authenticate::Authenticator;
use crate::authenticated::Authenticated;
use crate::edit::{Edit, Editor, Founding, NewUser, found};
use crate::error::{Code, Result};
use crate::key_ring::KeyRing;
use crate::principal::{Credential, Principal};
use crate::random::SystemRandom;
use crate::session::Credentials;
use crate::tests::clients::Client;

/// Time at which tests begin, in seconds.
pub(crate) const BEGIN: i64 = 1_796_558_400;
pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "us-east-1";

#[derive(Debug)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn pass(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }

    fn new_id(&self) -> uuid::Uuid {
        unimplemented!("accounts have no UUIDs")
    }
}

pub(crate) struct World {
    pub(crate) account: Arc<Account>,
    pub(crate) documents: BTreeMap<String, Vec<u8>>,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) host: Authenticator,
}

impl World {
    pub(crate) fn new() -> World {
        let keys = KeyRing::of(KeyRing::fresh_key(&SystemRandom).unwrap());
        let founding =
            Founding { account: ACCOUNT.parse().unwrap(), alias: None, keys: &keys, wrapped: BTreeMap::new() };
        let edit = found(founding, Timestamp::from_second(BEGIN).unwrap()).unwrap();
        let documents: BTreeMap<String, Vec<u8>> =
            edit.documents().map(|(path, bytes)| (path.to_owned(), bytes.unwrap().to_vec())).collect();
        let clock = Arc::new(TestClock(AtomicI64::new(BEGIN)));
        let host = Authenticator::new(REGION, &["codecommit", "iam", "sts"], clock.clone());
        let account = Arc::new(Account::parse(&documents).unwrap());
        let world = World { account, documents, keys: Arc::new(keys), clock, host };
        world.follow();
        world
    }

    /// An account with the user `jane`.
    pub(crate) fn with_jane() -> World {
        let mut world = World::new();
        world.edit(|editor| editor.create_user(NewUser::named("jane")));
        world
    }

    pub(crate) fn follow(&self) {
        self.host.follow(self.account.clone(), self.keys.clone());
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn editor(&self) -> Editor<'_> {
        Editor::new(&self.account, self.now(), &SystemRandom)
    }

    /// Commits an edit.
    pub(crate) fn edit(&mut self, make: impl FnOnce(Editor<'_>) -> Result<Edit>) {
        let edit = make(self.editor()).unwrap();
        self.commit(&edit);
    }

    pub(crate) fn commit(&mut self, edit: &Edit) {
        assert!(!edit.message().is_empty() && !edit.message().contains('\n'));
        let changes: Vec<_> =
            edit.documents().map(|(path, bytes)| (path.to_owned(), bytes.map(<[u8]>::to_vec))).collect();
        self.write(changes);
    }

    /// Writes documents as they are.
    pub(crate) fn write(&mut self, changes: Vec<(String, Option<Vec<u8>>)>) {
        self.account = Arc::new(self.account.with(changes.clone()).unwrap());
        for (path, bytes) in changes {
            match bytes {
                Some(bytes) => self.documents.insert(path, bytes),
                None => self.documents.remove(&path),
            };
        }
        self.follow();
    }

    /// Code of the error of an edit.
    pub(crate) fn refused(&self, make: impl FnOnce(Editor<'_>) -> Result<Edit>) -> Code {
        make(self.editor()).unwrap_err().code()
    }

    /// A client with a new access key of a user.
    pub(crate) fn client(&mut self, user: &str) -> Client {
        let keys = self.keys.clone();
        let (edit, key) = self.editor().create_access_key(user, &keys).unwrap();
        self.commit(&edit);
        Client::new(&key.id, key.secret.expose(), None)
    }

    /// A client with temporary credentials.
    pub(crate) fn client_of(&self, credentials: &Credentials) -> Client {
        let token = Some(credentials.token.expose().to_owned());
        Client::new(&credentials.access_key_id, credentials.secret.expose(), token)
    }

    /// The principal of a user, as a key would prove it.
    pub(crate) fn principal(&self, user: &str) -> Principal {
        let user = self.account.user(user).unwrap();
        Principal::user(&self.account, user, None, Credential::AccessKey("AKIAAAAAAAAAAAAAAAAA".into()))
    }
}

/// Returns true if an authenticated principal may do something.
pub(crate) fn may(who: &Authenticated, action: &str, resource: &str) -> bool {
    let policies = who.principal.policies(&who.account).unwrap();
    evaluate(&policies, &Request { action, resource, context: &who.context }).is_allowed()
}

pub(crate) fn allow(action: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": "{action}", "Resource": "*"}}]}}"#
    )
}

pub(crate) fn deny(action: &str) -> String {
    allow(action).replace("Allow", "Deny")
}

pub(crate) fn trust(principal: &str, more: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": {principal}, "Action": "sts:AssumeRole"{more}}}]}}"#
    )
}
