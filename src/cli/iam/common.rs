//! Arguments and steps that all commands on the account share.

use clap::Args;
use gitferry_account::Author;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::EntityKind;
use gitferry_iam::{Account, IamError};
use gitferry_identity::Administration;
use gitferry_service::open;
use serde_json::Value;

use crate::cli::context::{Context, login_name, machine};
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

/// Arguments of all commands on the account.
#[derive(Debug, Args)]
pub struct AccountArgs {
    /// Region that accepts changes of the account; any region to read it.
    #[arg(long, value_name = "R")]
    region: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// User, group or role that a command is about.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Holder {
    /// Name of a user.
    #[arg(long)]
    user: Option<String>,
    /// Name of a group.
    #[arg(long)]
    group: Option<String>,
    /// Name of a role.
    #[arg(long)]
    role: Option<String>,
}

impl Holder {
    /// Kind and name.
    pub fn entity(&self) -> (EntityKind, &str) {
        match (&self.user, &self.group, &self.role) {
            (Some(name), _, _) => (EntityKind::User, name),
            (_, Some(name), _) => (EntityKind::Group, name),
            (_, _, Some(name)) => (EntityKind::Role, name),
            (None, None, None) => unreachable!("the arguments require one of them"),
        }
    }
}

/// The account opened for a command.
pub struct Opened {
    pub administration: Administration,
    pub account: Account,
    author: Author,
}

impl AccountArgs {
    /// Reads the account.
    pub async fn read(&self, context: &Context) -> Result<Account, Failure> {
        let region = context.region(&self.region).await?;
        Ok(Administration::open(&region, Vec::new()).await?.account().await?)
    }

    /// Opens the account to change it.
    pub async fn open(&self, context: &Context) -> Result<Opened, Failure> {
        let region = context.region_to_change(&self.region, ACCOUNT).await?;
        let services = open::key_services(&context.config()?, Some(&self.region)).await?;
        let administration = Administration::open(&region, services).await?;
        let account = administration.account().await?;
        let author = Author::new(login_name(), account.id().root_arn());
        let author = match machine() {
            Some(machine) => author.from_address(machine),
            None => author,
        };
        Ok(Opened { administration, account, author })
    }

    /// Makes one change that has no result of its own, and prints what was done.
    pub async fn change(
        &self,
        context: &Context,
        mut edit: impl FnMut(&Editor<'_>) -> Result<Edit, IamError>,
        done: (Value, String),
    ) -> Result<Exit, Failure> {
        let opened = self.open(context).await?;
        opened.change(|editor| Ok((edit(editor)?, ()))).await?;
        let (value, text) = done;
        self.print(&value, text)
    }

    /// Prints a result as JSON or as text.
    pub fn print(&self, value: &Value, text: impl std::fmt::Display) -> Result<Exit, Failure> {
        if self.json {
            output::json(value)?;
        } else {
            output::line(text);
        }
        Ok(Exit::Done)
    }

    /// Prints a list as one JSON object, or as a table under `heading`. `empty` stands for no rows.
    pub fn list(
        &self,
        key: &str,
        values: Vec<Value>,
        heading: &[&str],
        rows: Vec<Vec<String>>,
        empty: &str,
    ) -> Result<Exit, Failure> {
        if self.json {
            output::json(&serde_json::json!({ key: values }))?;
        } else if rows.is_empty() {
            output::line(empty);
        } else {
            let heading = heading.iter().map(|cell| (*cell).to_owned()).collect();
            output::table(&[vec![heading], rows].concat());
        }
        Ok(Exit::Done)
    }
}

impl Opened {
    /// Author of the commits.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// Makes one change, with a result.
    pub async fn change<T>(&self, edit: impl FnMut(&Editor<'_>) -> Result<(Edit, T), IamError>) -> Result<T, Failure> {
        Ok(self.administration.change(&self.author, edit).await?)
    }
}

/// Reads the text of a policy.
pub fn read_document(file: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::from(error).about(&format!("cannot read {}", file.display())))
}

/// Parses a tag of the form `KEY=VALUE`.
pub fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "a tag has the form KEY=VALUE".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}
