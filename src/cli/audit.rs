//! Audit trails of a configuration.

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::Builder;
use gitferry_audit::AuditTrail;
use gitferry_audit::sinks::{BusSink, FileSink, Rotation, Sink};
use gitferry_base::supervise::Supervisor;
use gitferry_config::{AuditConfig, Config, HostConfig};
use gitferry_engine::region::Region;
use gitferry_store::aws::attempts::CountAttempts;

use super::failure::Failure;

/// Starts the audit trail of a region's host under `tasks`; one that records nothing without `[hosts.REGION.audit]`.
///
/// # Errors
/// The file cannot be opened.
pub async fn open(
    config: &Config,
    region: &Region,
    host: &HostConfig,
    tasks: &mut Supervisor,
) -> Result<AuditTrail, Failure> {
    let Some(audit) = &host.audit else { return Ok(AuditTrail::default()) };
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    sinks.extend(file(config, audit)?.map(|sink| Box::new(sink) as Box<dyn Sink>));
    sinks.extend(bus(config, region, audit).await.map(|sink| Box::new(sink) as Box<dyn Sink>));
    Ok(AuditTrail::start(region.name(), region.shared_clock().clone(), sinks, tasks))
}

fn file(config: &Config, audit: &AuditConfig) -> Result<Option<FileSink>, Failure> {
    let Some(file) = &audit.file else { return Ok(None) };
    let rotation = Rotation { max_bytes: audit.rotate_at(), keep: audit.keep() };
    let opened = FileSink::open(config.path(file), rotation);
    opened.map(Some).map_err(|error| Failure::usage(error.to_string()))
}

async fn bus(config: &Config, region: &Region, audit: &AuditConfig) -> Option<BusSink> {
    let events = audit.events.as_ref()?;
    let settings = config.regions.get(region.name())?;
    let sdk = Builder::from(&config.sdk.get(&settings.aws).await).interceptor(CountAttempts);
    Some(BusSink::new(Client::from_conf(sdk.build()), &events.bus))
}
