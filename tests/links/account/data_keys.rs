//! Data keys of an account at work: key services that hang or fail, and rotations that end anywhere.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_account::Author;
use gitferry_base::Kind;
use gitferry_base::supervise::Supervisor;
use gitferry_engine::region::Region;
use gitferry_iam::edit::{NewGitCredential, NewUser};
use gitferry_iam::model::GIT_SERVICE;
use gitferry_iam::secret::{KeyContext, KeyService, KeyServiceError, LocalKeyFile};
use gitferry_iam::{Payload, RequestParts};
use gitferry_identity::{Administration, AdministrationError, Founding, Identities, found};
use gitferry_test_support::faulty::{Sites, assert_sound};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::faults::everywhere::{Breadth, Plan, crash_everywhere, fail_everywhere};

/// Most time from a change to a host that decides by it.
const SOON: Duration = Duration::from_secs(2);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Behaviour of a key service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Answers,
    Hangs,
    Refuses,
}

/// A key service that behaves as a test says.
#[derive(Debug)]
struct Moody {
    inner: LocalKeyFile,
    mood: watch::Sender<Mood>,
}

impl Moody {
    fn new(folder: &Path, name: &str) -> Arc<Moody> {
        let inner = LocalKeyFile::open_or_create(&folder.join(name)).unwrap();
        Arc::new(Moody { inner, mood: watch::Sender::new(Mood::Answers) })
    }

    async fn settle(&self) -> Result<(), KeyServiceError> {
        let mut mood = self.mood.subscribe();
        match *mood.wait_for(|mood| *mood != Mood::Hangs).await.unwrap() {
            Mood::Refuses => {
                let key_id = self.key_id().to_owned();
                Err(KeyServiceError { key_id, reason: "the key is disabled".into(), kind: Kind::Environment })
            }
            Mood::Answers | Mood::Hangs => Ok(()),
        }
    }
}

#[async_trait]
impl KeyService for Moody {
    fn key_id(&self) -> &str {
        self.inner.key_id()
    }

    async fn wrap(&self, data_key: &[u8; 32], context: KeyContext<'_>) -> Result<Vec<u8>, KeyServiceError> {
        self.settle().await?;
        self.inner.wrap(data_key, context).await
    }

    async fn unwrap(&self, wrapped: &[u8], context: KeyContext<'_>) -> Result<Zeroizing<[u8; 32]>, KeyServiceError> {
        self.settle().await?;
        self.inner.unwrap(wrapped, context).await
    }
}

fn root() -> Author {
    Author::new("root", "arn:aws:iam::123456789012:root")
}

fn services(service: &Arc<Moody>) -> Vec<Arc<dyn KeyService>> {
    vec![service.clone()]
}

async fn found_account(us: &Region, services: &[Arc<dyn KeyService>]) {
    let founding = Founding { account: None, alias: None, administrator: "admin".into() };
    found(us, services, founding).await.unwrap();
}

async fn git_credential(administration: &Administration, user: &str) -> NewGitCredential {
    administration.change(&root(), |editor| editor.create_git_credential(user, GIT_SERVICE)).await.unwrap()
}

/// The identities of a host, at work.
struct Host {
    identities: Arc<Identities>,
    stop: watch::Sender<bool>,
    supervisor: Supervisor,
}

impl Host {
    fn start(us: &Region, services: Vec<Arc<dyn KeyService>>) -> Host {
        let (stop, stopped) = watch::channel(false);
        let mut supervisor = Supervisor::new(stopped);
        let identities = Identities::new(us, services);
        identities.run_under(&mut supervisor);
        Host { identities, stop, supervisor }
    }

    fn accepts(&self, credential: &NewGitCredential) -> bool {
        let text = format!("{}:{}", credential.user_name, credential.password.expose());
        let basic = format!("Basic {}", STANDARD.encode(text));
        let parts = RequestParts {
            method: "GET",
            path: "/app/info/refs",
            query: "service=git-upload-pack",
            headers: &[("host", b"localhost"), ("authorization", basic.as_bytes())],
            authority: None,
            payload: Payload::Unread,
            repository_path: Some("/app"),
            source: "192.0.2.1".parse().unwrap(),
            secure: true,
        };
        self.identities.authenticator().is_ok_and(|authenticator| authenticator.authenticate(&parts).is_ok())
    }

    /// Returns true if all data keys of the state in force are open.
    fn has_all_keys(&self) -> bool {
        let Ok(authenticator) = self.identities.authenticator() else { return false };
        let state = authenticator.account().zip(authenticator.keys());
        state.is_some_and(|(account, keys)| keys.serves(&account))
    }

    async fn until(&self, what: impl Fn(&Host) -> bool) -> Duration {
        let start = Instant::now();
        while !what(self) {
            assert!(start.elapsed() < PATIENCE, "it does not come true");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.supervisor.join().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_after_a_new_data_key_waits_for_no_key_service() {
    for mood in [Mood::Hangs, Mood::Refuses] {
        let sites = Sites::new(&["us"]);
        let us = sites.region("us");
        let of_host = Moody::new(&sites.path("us"), "account.key");
        let of_administrator = Moody::new(&sites.path("us"), "account.key");
        found_account(&us, &services(&of_administrator)).await;
        let administration = Administration::open(&us, services(&of_administrator)).await.unwrap();
        let credential = git_credential(&administration, "admin").await;
        let host = Host::start(&us, services(&of_host));
        host.until(|host| host.accepts(&credential) && host.has_all_keys()).await;
        of_host.mood.send_replace(mood);
        administration.rotate_data_key(&root(), &[]).await.unwrap();
        host.until(|host| !host.has_all_keys()).await;
        assert!(host.accepts(&credential), "{mood:?}: a password needs no data key");
        let id = credential.id.clone();
        administration.change(&root(), |editor| Ok((editor.delete_git_credential("admin", &id)?, ()))).await.unwrap();
        let took = host.until(|host| !host.accepts(&credential)).await;
        assert!(took <= SOON, "{mood:?}: {took:?}");
        assert!(!host.has_all_keys(), "{mood:?}: the key service has answered");
        of_host.mood.send_replace(Mood::Answers);
        host.until(Host::has_all_keys).await;
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_opens_no_data_key_serves_what_needs_none() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let service = Moody::new(&sites.path("us"), "account.key");
    found_account(&us, &services(&service)).await;
    let administration = Administration::open(&us, services(&service)).await.unwrap();
    let credential = git_credential(&administration, "admin").await;
    let elsewhere = Moody::new(&sites.path("us"), "another.key");
    let host = Host::start(&us, services(&elsewhere));
    let took = host.until(|host| host.accepts(&credential)).await;
    assert!(took <= SOON, "{took:?}");
    assert!(!host.has_all_keys());
    host.stop().await;
}

#[tokio::test]
async fn a_rotation_leaves_no_key_service_out_by_accident() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let (file, kms) = (Moody::new(&sites.path("us"), "file"), Moody::new(&sites.path("us"), "kms"));
    found_account(&us, &services(&file)).await;
    // The way from one key service to the other: with both, then without the first.
    let both: Vec<Arc<dyn KeyService>> = vec![file.clone(), kms.clone()];
    let administration = Administration::open(&us, both).await.unwrap();
    let plan = administration.plan_rotation(&[], true).await.unwrap();
    assert_eq!((plan.services.len(), plan.seals.len(), plan.secrets), (2, 1, 1));
    assert_eq!(administration.data_keys().await.unwrap().len(), 1, "a plan changes nothing");
    let first = administration.rotate_data_key(&root(), &[]).await.unwrap();
    let done = administration.reseal(&root(), &[]).await.unwrap();
    assert_eq!((done.secrets, done.unreadable.len(), done.closed.len()), (1, 0, 0));
    let keys = administration.data_keys().await.unwrap();
    assert!(keys.iter().all(|key| key.services.len() == 2), "the old data key as well: {keys:?}");
    assert_eq!((keys[0].secrets, keys[0].is_current), (1, true));
    // Hosts that have the new key service alone open everything.
    let alone = Administration::open(&us, services(&kms)).await.unwrap();
    let ring = alone.keys(&alone.account().await.unwrap()).await.unwrap();
    assert!(ring.serves(&alone.account().await.unwrap()));
    let refused = alone.rotate_data_key(&root(), &[]).await.unwrap_err();
    assert!(matches!(&refused, AdministrationError::LacksKeyService { missing, .. } if *missing == [file.key_id()]));
    assert_eq!(refused.kind(), Kind::Refused);
    let without = [file.key_id().to_owned()];
    let second = alone.rotate_data_key(&root(), &without).await.unwrap();
    assert_eq!((second.replaced, second.services), (first.data_key, vec![kms.key_id().to_owned()]));
    alone.reseal(&root(), &without).await.unwrap();
    let nothing = administration.plan_rotation(&[file.key_id().to_owned(), kms.key_id().to_owned()], true).await;
    assert!(matches!(nothing, Err(AdministrationError::NoKeyService)), "{nothing:?}");
    // A key service that refuses changes nothing.
    kms.mood.send_replace(Mood::Refuses);
    let before = alone.data_keys().await.unwrap();
    let refused = alone.rotate_data_key(&root(), &without).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Environment);
    assert!(refused.to_string().contains("disabled"), "{refused}");
    assert_eq!(alone.data_keys().await.unwrap(), before);
}

/// Users whose secrets a rotation seals again.
const USERS: usize = 3;

/// Rotates with a fault, then without, and reads every secret at each step.
async fn one_rotation(template: &Sites, plan: Plan) -> bool {
    let sites = template.copy();
    let service = Moody::new(&template.path("us"), "account.key");
    let faults = plan.arm();
    let opened = Administration::open(&plan.region(&sites, "us", &faults), services(&service)).await;
    if let Ok(administration) = opened
        && administration.rotate_data_key(&root(), &[]).await.is_ok()
    {
        let _ = administration.reseal(&root(), &[]).await;
    }
    let us = sites.region("us");
    assert_sound(&us).await;
    let administration = Administration::open(&us, services(&service)).await.unwrap();
    // A rotation reads every secret, whichever data key seals it.
    administration.rotate_data_key(&root(), &[]).await.unwrap();
    let done = administration.reseal(&root(), &[]).await.unwrap();
    assert_eq!((done.secrets, done.unreadable.len(), done.closed.len()), (USERS + 1, 0, 0), "{plan:?}");
    faults.injected() > 0
}

async fn with_users() -> Sites {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let service = Moody::new(&sites.path("us"), "account.key");
    found_account(&us, &services(&service)).await;
    let administration = Administration::open(&us, services(&service)).await.unwrap();
    let keys = administration.keys(&administration.account().await.unwrap()).await.unwrap();
    for number in 0..USERS {
        let name = format!("user{number}");
        administration.change(&root(), |editor| Ok((editor.create_user(NewUser::named(&name))?, ()))).await.unwrap();
        administration.change(&root(), |editor| editor.create_access_key(&name, &keys)).await.unwrap();
    }
    sites
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_dies_anywhere_leaves_every_secret_readable() {
    let sites = with_users().await;
    assert!(crash_everywhere(Breadth::One, |plan| one_rotation(&sites, plan)).await >= 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_whose_calls_fail_once_leaves_every_secret_readable() {
    let sites = with_users().await;
    assert!(fail_everywhere(Breadth::One, |plan| one_rotation(&sites, plan)).await >= 20);
}
