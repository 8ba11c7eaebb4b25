//! The repositories of a host as the API of CodeCommit sees them.

use std::io::Cursor;
use std::sync::Arc;

use async_trait::async_trait;
use gix::hash::Kind as Format;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::admission::permits::PermitPool;
use crate::announcer::Announcer;
use crate::client::Client;
use crate::push::create_on_push::Creation;
use crate::push::policies::PushPolicies;
use crate::quotas::Quotas;
use crate::request::refusal::Refusal;
use crate::views::Views;
use gitferry_api::JsonApi;
use gitferry_codecommit::{CodeCommit, ComputePermit, NoCreation, Repositories, Settings};
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::region::push::{PushPolicy, PushProgress, PushState, PushStates, Pushed, Serving};
use gitferry_engine::region::{Region, RegionError, Result};
use gitferry_git::client::empty_pack;
use gitferry_git::limits::WALK_STACK_BYTES;
use gitferry_git::receive_pack::{Command, PushRequest};
use gitferry_git::view::RefTable;

/// The repositories of a region, with the cache, the rules for pushes and the quotas of its host.
#[derive(Clone, Debug)]
pub(crate) struct ApiRepositories {
    pub region: Region,
    pub views: Arc<Views>,
    pub policies: Arc<PushPolicies>,
    pub announcer: Announcer,
    pub quotas: Arc<Quotas>,
    pub creation: Arc<Creation>,
    pub compute: Arc<PermitPool>,
}

impl ApiRepositories {
    /// The JSON APIs on these repositories: CodeCommit's, for a host with settings for it.
    pub fn apis(self, settings: Option<Settings>) -> Vec<Arc<dyn JsonApi>> {
        let Some(settings) = settings else { return Vec::new() };
        vec![Arc::new(CodeCommit::new(self.region.clone(), Arc::new(self), settings))]
    }
}

#[async_trait]
impl Repositories for ApiRepositories {
    async fn find(&self, name: &str) -> Result<Option<HeadItem>> {
        match self.views.head(name).await {
            Ok(item) => Ok(Some(item)),
            Err(RegionError::NoRepository { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn refs(&self, item: &HeadItem) -> Result<Arc<RefTable>> {
        self.views.refs(item).await
    }

    async fn state(&self, item: &HeadItem) -> Result<PushState> {
        Ok(self.views.open_read(item).await?.state().clone())
    }

    async fn push(
        &self,
        item: &HeadItem,
        commands: Vec<Command>,
        pack: Option<Vec<u8>>,
        actor: &str,
    ) -> Result<Pushed> {
        let states = States { views: self.views.clone(), name: item.head.name.clone(), id: item.id };
        let push = ApiPush { host: self.clone(), states, format: item.head.format, actor: actor.to_owned() };
        let runtime = Handle::current();
        let (done, pushed) = oneshot::channel();
        let thread = std::thread::Builder::new().name("api-push".into()).stack_size(WALK_STACK_BYTES);
        let span = tracing::Span::current();
        thread.spawn(move || {
            let _within = span.enter();
            // The request may be gone; the change is committed or not all the same.
            let _ = done.send(push.run(commands, pack, &runtime));
        })?;
        pushed.await.map_err(|_| std::io::Error::other("the thread of a push ended early"))?
    }

    async fn begin_compute(&self) -> Option<ComputePermit> {
        let permit = self.compute.acquire(Client::current().key(), None).await.ok()?;
        Some(Box::new(permit))
    }

    fn committed(&self, item: &HeadItem) {
        self.announcer.committed(item);
    }

    fn check_creation(&self, name: &str) -> std::result::Result<(), NoCreation> {
        if let Some(source) = self.creation.source_of(name) {
            return Err(NoCreation::Replicated(source.to_owned()));
        }
        self.quotas.check_new_repository().map_err(|refusal| match refusal {
            Refusal::Forbidden(text) => NoCreation::Quota(text),
            refusal => {
                tracing::error!(?refusal, "a quota refuses a repository without a reason for the client");
                NoCreation::Quota("A quota is used up.".to_owned())
            }
        })
    }
}

/// A push on its thread.
struct ApiPush {
    host: ApiRepositories,
    states: States,
    format: Format,
    actor: String,
}

impl ApiPush {
    fn run(self, commands: Vec<Command>, pack: Option<Vec<u8>>, runtime: &Handle) -> Result<Pushed> {
        let ApiRepositories { region, policies, announcer, views, quotas, .. } = &self.host;
        let request = PushRequest::atomic(commands);
        let policy = PushPolicy {
            authorizer: None,
            storage: quotas.on_packs(),
            mirror: false,
            ..PushPolicy::clone(policies.of(&self.states.name))
        };
        let serving = Serving { region, runtime, policy: &policy, actor: &self.actor, request: &request };
        // Git's clients send a pack without objects with refs to objects that the server has, too.
        let mut pack = Cursor::new(pack.unwrap_or_else(|| empty_pack(self.format)));
        let pushed = serving.push(&self.states, &mut pack, &PushProgress::default())?;
        if let Some(item) = &pushed.item {
            announcer.committed(item);
            // The next request finds the repository open.
            let packs = runtime.block_on(self.states.state()).map_or(0, |state| state.manifest.packs.len());
            let _within = runtime.enter();
            views.committed(item, packs);
        }
        Ok(pushed)
    }
}

/// The newest state of the repository with which a request began.
struct States {
    views: Arc<Views>,
    name: String,
    id: RepositoryId,
}

#[async_trait]
impl PushStates for States {
    async fn state(&self) -> Result<PushState> {
        Ok(self.views.open_by_id(&self.name, self.id).await?.state().clone())
    }
}
