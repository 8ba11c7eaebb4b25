//! A push behind Git's protocol, from the commands to the report. Blocking.

use std::io::{self, BufRead, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{PushPolicy, PushProgress, PushStates, Pushed, judge};
use crate::region::{Region, RegionError};
use gitferry_base::Kind;
use gitferry_git::pack::CheckProgress;
use gitferry_git::protocol::{Progress, Sideband, drain};
use gitferry_git::receive_pack::{Outcome, PushRequest, Report};

/// Most bytes of a refused pack that are read after the report: a client that is cut off while it sends may
/// not see what it was told.
pub const MAX_DRAINED_BYTES: u64 = 1 << 30;
/// How often it is looked whether there is progress to tell.
const TICK: Duration = Duration::from_millis(200);

/// A push whose commands have been read.
#[derive(Debug)]
pub struct Serving<'a> {
    /// Where it goes.
    pub region: &'a Region,
    /// What waits for the region.
    pub runtime: &'a Handle,
    /// What the repository accepts.
    pub policy: &'a PushPolicy,
    /// Who pushes.
    pub actor: &'a str,
    /// The commands.
    pub request: &'a PushRequest,
}

impl Serving<'_> {
    /// Takes the pack from `input`, pushes, and writes the report.
    ///
    /// What is wrong with the push is in the report; errors are those of `output`. The head in what is
    /// returned is for [`Region::maintain_snapshot`].
    pub fn serve(
        &self,
        states: &dyn PushStates,
        input: &mut dyn BufRead,
        output: &mut (dyn Write + Send),
    ) -> io::Result<Pushed> {
        let capabilities = &self.request.capabilities;
        let progress = PushProgress::default();
        let mut work = || self.push(states, input, &progress).unwrap_or_else(|error| self.failed(&error));
        let pushed = match capabilities.side_band_64k {
            true => with_progress(&progress.checking, capabilities.quiet, output, work)?,
            false => work(),
        };
        pushed.report.write(capabilities, output)?;
        if pushed.item.is_none() {
            // The client has been told already what is wrong.
            drain(input, MAX_DRAINED_BYTES);
        }
        Ok(pushed)
    }

    /// The same without Git's protocol around it.
    pub fn push(
        &self,
        states: &dyn PushStates,
        input: &mut dyn BufRead,
        progress: &PushProgress,
    ) -> Result<Pushed, RegionError> {
        let Serving { region, runtime, policy, actor, request } = *self;
        let state = runtime.block_on(states.state())?;
        region.check_writable(&state.item)?;
        let judged = judge(&state, policy, request, actor, input, &region.spool_dir(), progress)?;
        runtime.block_on(region.push(states, state, policy, request, judged, actor))
    }

    /// What is told of a push that failed as a whole.
    pub fn failed(&self, error: &RegionError) -> Pushed {
        tracing::warn!(%error, actor = self.actor, "a push failed");
        let reason = match error.kind() {
            _ if matches!(error, RegionError::NameTaken { .. }) => {
                "another push has made the repository; push again".into()
            }
            Kind::Refused | Kind::NotFound | Kind::Usage => error.to_string(),
            Kind::Conflict if matches!(error, RegionError::Full { .. }) => error.to_string(),
            Kind::Conflict => "too many pushes at the same time; try again".into(),
            Kind::Transient => "the server failed for now; fetch, and push again if it is not there".into(),
            Kind::InDoubt => {
                "the push may have happened: its outcome is not known; fetch, and push again if it is not there".into()
            }
            Kind::Environment | Kind::Corrupt | Kind::Missing | Kind::Internal => {
                "the server failed; its operator has to look".into()
            }
        };
        let refs = self.request.commands.iter();
        let refs = refs.map(|command| Outcome { name: command.name.clone(), result: Err(reason.clone()) }).collect();
        Pushed { report: Report { unpack: Ok(()), refs, messages: Vec::new() }, item: None }
    }
}

/// Works while another thread tells the client how far the check is.
fn with_progress<T: Send>(
    progress: &CheckProgress,
    quiet: bool,
    output: &mut (dyn Write + Send),
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let telling = std::thread::Builder::new().spawn_scoped(scope, move || tell(progress, quiet, output, &ended))?;
        let result = work();
        drop(done);
        telling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(result)
    })
}

fn tell(
    progress: &CheckProgress,
    quiet: bool,
    output: &mut (dyn Write + Send),
    ended: &Receiver<()>,
) -> io::Result<()> {
    let mut bands = Sideband::large(output);
    let mut told: Option<Progress> = None;
    loop {
        let ended = ended.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout);
        let (count, total) = (progress.objects.load(Ordering::Relaxed), progress.objects_total.load(Ordering::Relaxed));
        if ended {
            return match &mut told {
                Some(told) => told.done(count, quiet, &mut bands),
                None => Ok(()),
            };
        }
        // Nothing is said while the pack still arrives: a client may not listen before it has sent everything.
        if total > 0 {
            let told = told.get_or_insert_with(|| Progress::new("Checking objects", Some(total)));
            // Nobody waits for the check of a client that is gone.
            told.update(count, quiet, &mut bands).inspect_err(|_| progress.cancel.store(true, Ordering::Relaxed))?;
        }
    }
}
