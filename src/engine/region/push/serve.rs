//! A push behind Git's protocol, from the commands to the report. Blocking.

use std::io::{self, BufRead, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use tokio::runtime::Handle;

use super::judge::{PushProgress, judge};
use super::policy::PushPolicy;
use super::receive::Pushed;
use super::rejection::Rejection;
use super::state::PushStates;
use crate::region::{Region, RegionError};
use gitferry_base::Kind;
use gitferry_git::pack::CheckProgress;
use gitferry_git::protocol::{Progress, Sideband, drain};
use gitferry_git::receive_pack::{Outcome, PushRequest, Report};

/// Most bytes of a refused pack that are read after the report: a client that is cut off while it sends may not see the
/// report.
pub const MAX_DRAINED_BYTES: u64 = 1 << 30;
/// Interval of progress messages.
const TICK: Duration = Duration::from_millis(200);

/// A push whose commands have been read.
#[derive(Debug)]
pub struct Serving<'a> {
    /// Target region.
    pub region: &'a Region,
    /// Runtime that drives the region's requests.
    pub runtime: &'a Handle,
    /// Rules of the repository.
    pub policy: &'a PushPolicy,
    /// User in whose name the change is made.
    pub actor: &'a str,
    /// Commands and capabilities of the client.
    pub request: &'a PushRequest,
}

impl Serving<'_> {
    /// Reads the pack from `input`, pushes, and writes the report.
    ///
    /// Faults of the push are in the report; errors are those of `output`. Pass the head in the result to
    /// [`Snapshots::maintain`](crate::region::snapshots::Snapshots::maintain).
    pub fn serve(
        &self,
        states: &dyn PushStates,
        input: &mut dyn BufRead,
        output: &mut (dyn Write + Send),
    ) -> io::Result<Pushed> {
        self.serve_and_record(states, input, output, &mut |_| {})
    }

    /// [`Serving::serve`], with a record of the outcome as soon as it is known: a client that is gone gets no report of a
    /// push that has been committed.
    pub fn serve_and_record(
        &self,
        states: &dyn PushStates,
        input: &mut dyn BufRead,
        output: &mut (dyn Write + Send),
        record: &mut dyn FnMut(&Pushed),
    ) -> io::Result<Pushed> {
        let capabilities = &self.request.capabilities;
        let progress = PushProgress::default();
        let mut work = || {
            let pushed = self.push(states, input, &progress).unwrap_or_else(|error| self.failed(&error));
            record(&pushed);
            pushed
        };
        let pushed = if capabilities.side_band_64k {
            with_progress(&progress.checking, capabilities.quiet, output, work)?
        } else {
            work()
        };
        pushed.report.write(capabilities, output)?;
        if pushed.item.is_none() {
            // The client has its report already.
            drain(input, MAX_DRAINED_BYTES);
        }
        Ok(pushed)
    }

    /// Pushes without reading or writing Git's protocol.
    pub fn push(
        &self,
        states: &dyn PushStates,
        input: &mut dyn BufRead,
        progress: &PushProgress,
    ) -> Result<Pushed, RegionError> {
        let Serving { region, runtime, policy, actor, request } = *self;
        let state = runtime.block_on(states.state())?;
        region.committer().check_writable(&state.item)?;
        let judged = judge(&state, policy, request, actor, input, &region.spool_dir(), progress)?;
        runtime.block_on(region.receiver().push(states, state, policy, request, judged, actor))
    }

    /// Returns the report of a push that failed as a whole.
    pub fn failed(&self, error: &RegionError) -> Pushed {
        tracing::warn!(%error, actor = self.actor, "a push failed");
        let reason = match error.kind() {
            _ if matches!(error, RegionError::NameTaken { .. }) => {
                "another push has created the repository; push again".into()
            }
            _ if matches!(error, RegionError::Replaced { .. }) => error.to_string(),
            Kind::Refused | Kind::NotFound | Kind::Usage => error.to_string(),
            Kind::Conflict if matches!(error, RegionError::Full { .. }) => error.to_string(),
            Kind::Conflict => "too many pushes at the same time; try again".into(),
            Kind::Transient => {
                "the server failed temporarily; fetch, and push again if your changes are not there".into()
            }
            Kind::InDoubt => {
                "the push may have happened: its outcome is unknown; fetch, and push again if it is not there".into()
            }
            Kind::Environment | Kind::Corrupt | Kind::Missing | Kind::Internal => match error.key_fault() {
                Some(fault) => fault.for_clients().into(),
                None => "the server failed; its log names the cause".into(),
            },
        };
        let refs = self.request.commands.iter();
        let refs = refs.map(|command| Outcome { name: command.name.clone(), result: Err(reason.clone()) }).collect();
        let rejection = Some(rejection(error));
        Pushed { report: Report { unpack: Ok(()), refs, messages: Vec::new() }, rejection, item: None }
    }
}

/// Cause for which a push fails as a whole.
fn rejection(error: &RegionError) -> Rejection {
    match error.kind() {
        Kind::Refused | Kind::NotFound | Kind::Usage => Rejection::NotWritable,
        Kind::Conflict if matches!(error, RegionError::Replaced { .. }) => Rejection::NotWritable,
        Kind::Conflict => Rejection::Contention,
        Kind::Transient | Kind::InDoubt | Kind::Environment | Kind::Corrupt | Kind::Missing | Kind::Internal => {
            Rejection::Server
        }
    }
}

/// Runs `work` while another thread reports the progress of the check to the client.
fn with_progress<T: Send>(
    progress: &CheckProgress,
    quiet: bool,
    output: &mut (dyn Write + Send),
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        let reporter = std::thread::Builder::new()
            .spawn_scoped(scope, move || report_progress(progress, quiet, output, &ended))?;
        let result = work();
        drop(done);
        reporter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(result)
    })
}

fn report_progress(
    progress: &CheckProgress,
    quiet: bool,
    output: &mut (dyn Write + Send),
    ended: &Receiver<()>,
) -> io::Result<()> {
    let mut bands = Sideband::large(output);
    let mut bar: Option<Progress> = None;
    loop {
        let ended = ended.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout);
        let count = progress.objects.load(Ordering::Relaxed);
        let total = progress.objects_total.load(Ordering::Relaxed);
        if ended {
            return match &mut bar {
                Some(bar) => bar.done(count, quiet, &mut bands),
                None => Ok(()),
            };
        }
        // No progress while the pack arrives: a client may not read before it has sent everything.
        if total > 0 {
            let bar = bar.get_or_insert_with(|| Progress::new("Checking objects", Some(total)));
            // The client is gone: cancel the check.
            bar.update(count, quiet, &mut bands).inspect_err(|_| progress.cancel.store(true, Ordering::Relaxed))?;
        }
    }
}
