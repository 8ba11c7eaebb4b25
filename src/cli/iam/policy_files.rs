//! Policies named on the command line: files, or ARNs of managed policies.

use std::fs::File;
use std::io::Read as _;

use gitferry_policy::{DocumentKind, MAX_TEXT_BYTES, NamedPolicy, PolicyDocument, managed};

use crate::cli::failure::Failure;

/// Reads the policy of an argument: the ARN of a managed policy of AWS, or a file.
pub fn read(argument: &str) -> Result<NamedPolicy, Failure> {
    if argument.starts_with(managed::ARN_PREFIX) {
        return managed::find(argument).map(managed::ManagedPolicy::named).ok_or_else(|| {
            let names: Vec<&str> = managed::ALL.iter().map(|policy| policy.name).collect();
            let text = format!("{argument} is not a managed policy that gitferry has");
            Failure::usage(text).hint(format!("{}NAME with one of {}", managed::ARN_PREFIX, names.join(", ")))
        });
    }
    let text = text(argument).map_err(|error| Failure::usage(format!("{argument}: {error}")))?;
    let document = PolicyDocument::parse(&text, DocumentKind::Identity)
        .map_err(|error| Failure::usage(format!("{argument}: malformed policy document: {error}")))?;
    Ok(NamedPolicy::new(argument, document))
}

/// Text of a file, of which no more is read than a policy may have.
fn text(file: &str) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_TEXT_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
