//! Push policies by repository: the `[[push_policies]]` of the configuration, with their files read and hooks prepared.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gix::ObjectId;
use globset::GlobSet;

use super::hook::HttpHook;
use super::quarantines::Quarantines;
use gitferry_config::push_policy::{HookConfig, PushPolicyConfig};
use gitferry_config::{Config, ConfigError};
use gitferry_engine::region::push::PushPolicy;
use gitferry_git::fsck::Rules;
use gitferry_git::local::RefPatterns;
use gitferry_git::receive_pack::{CommandHook, PreReceive};

/// Most lines of an `fsck_skip` file. Each object takes 32 bytes of memory.
const MAX_SKIPPED_OBJECTS: usize = 1_000_000;

/// The push policy of each repository.
#[derive(Clone, Debug, Default)]
pub struct PushPolicies {
    policies: Vec<(GlobSet, Arc<PushPolicy>)>,
    others: Arc<PushPolicy>,
}

impl PushPolicies {
    /// Opens the policies of a configuration. No push may touch the `hidden` refs. Hooks at a URL fetch pushes through
    /// `quarantines`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] if a policy, or a file that it names, cannot be used.
    pub fn open(
        config: &Config,
        hidden: Option<RefPatterns>,
        quarantines: &Arc<Quarantines>,
    ) -> Result<Self, ConfigError> {
        let open = |(number, policy): (usize, &PushPolicyConfig)| {
            let invalid = |reason: String| ConfigError::Invalid {
                file: config.file.clone(),
                reason: format!("push_policies, number {}: {reason}", number + 1),
            };
            let matcher = policy.matcher().map_err(invalid)?;
            let opened = open_one(config, policy, hidden.clone(), quarantines).map_err(invalid)?;
            Ok((matcher, Arc::new(opened)))
        };
        let policies = config.push_policies.iter().enumerate().map(open).collect::<Result<_, _>>()?;
        Ok(PushPolicies { policies, others: Arc::new(PushPolicy { hidden, ..PushPolicy::default() }) })
    }

    /// The policy of a repository: the first one whose globs match, otherwise the default.
    pub fn of(&self, repository: &str) -> &Arc<PushPolicy> {
        let own = self.policies.iter().find(|(matcher, _)| matcher.is_match(repository));
        own.map_or(&self.others, |(_, policy)| policy)
    }
}

fn open_one(
    config: &Config,
    policy: &PushPolicyConfig,
    hidden: Option<RefPatterns>,
    quarantines: &Arc<Quarantines>,
) -> Result<PushPolicy, String> {
    let mut opened = PushPolicy { hidden, protections: policy.protections()?, ..PushPolicy::default() };
    if let Some(bytes) = policy.max_push {
        opened.limits.pack_bytes = bytes.as_u64();
    }
    if let Some(bytes) = policy.max_object {
        opened.limits.object_bytes = bytes.as_u64();
    }
    if let Some(bytes) = policy.max_lfs_object {
        opened.lfs_object_bytes = bytes.as_u64();
    }
    opened.lfs = policy.lfs_missing;
    opened.mirror = policy.mirror;
    opened.rules = policy.rules()?;
    if let (Some(rules), Some(file)) = (&mut opened.rules, &policy.fsck_skip) {
        read_skip_list(&config.path(file), rules)?;
    }
    opened.hook = policy.pre_receive.as_ref().map(|hook| open_hook(config, hook, quarantines)).transpose()?;
    Ok(opened)
}

fn open_hook(
    config: &Config,
    hook: &HookConfig,
    quarantines: &Arc<Quarantines>,
) -> Result<Arc<dyn PreReceive>, String> {
    let timeout = hook.timeout();
    match hook {
        HookConfig::Command { command, .. } => {
            let [program, arguments @ ..] = command.as_slice() else {
                return Err("pre_receive.command names no program".into());
            };
            // As in a shell, a name without a slash is searched in PATH.
            let program = if program.contains('/') {
                std::path::absolute(config.path(Path::new(program))).map_err(|error| error.to_string())?
            } else {
                PathBuf::from(program)
            };
            Ok(Arc::new(CommandHook { program, arguments: arguments.to_vec(), timeout }))
        }
        HookConfig::Url { url, token_file, .. } => {
            let token = token_file.as_ref().map(|file| read_token(&config.path(file))).transpose()?;
            Ok(Arc::new(HttpHook::new(url, token, timeout, quarantines.clone())?))
        }
    }
}

/// Reads object ids, one a line. `#` begins a comment, as in Git's `fsck.skipList`.
fn read_skip_list(file: &Path, rules: &mut Rules) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("fsck_skip {}: {error}", file.display());
    let lines = BufReader::new(std::fs::File::open(file).map_err(unreadable)?).lines();
    for (number, line) in lines.enumerate() {
        let line = line.map_err(unreadable)?;
        let id = line.split('#').next().unwrap_or_default().trim();
        if id.is_empty() {
            continue;
        }
        let bad = || format!("fsck_skip {}: line {} is not an object id", file.display(), number + 1);
        if number >= MAX_SKIPPED_OBJECTS {
            return Err(format!("fsck_skip {}: more than {MAX_SKIPPED_OBJECTS} lines", file.display()));
        }
        rules.skip(ObjectId::from_hex(id.as_bytes()).map_err(|_| bad())?);
    }
    Ok(())
}

fn read_token(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("token_file {}: {error}", file.display()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("token_file {} does not hold exactly one token", file.display()));
    }
    Ok(token.into())
}
