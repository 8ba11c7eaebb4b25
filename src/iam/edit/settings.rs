//! The account itself: founding, alias, quotas, data keys.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::account::{Account, AccountError};
use crate::arn::AccountId;
use crate::documents::{SETTINGS, paths};
use crate::edit::{Edit, Editor, NewAccessKey, NewGroup, NewUser};
use crate::error::{IamError, Result};
use crate::key_ring::KeyRing;
use crate::model::{DataKeyRecord, EntityKind, Format, Quota, Quotas, Settings};
use crate::random::Random;

/// Managed policy of the administrators.
const ADMINISTRATOR_ACCESS: &str = "arn:aws:iam::aws:policy/AdministratorAccess";

/// Account to be founded.
#[derive(Debug)]
pub struct Founding<'a> {
    /// Id of the account.
    pub account: AccountId,
    /// Name for people.
    pub alias: Option<String>,
    /// Ring of the data key that seals the account's secrets.
    pub keys: &'a KeyRing,
    /// The data key as key services sealed it ([`KeyRing::wrapped`]).
    pub wrapped: BTreeMap<String, Vec<u8>>,
}

/// First documents of an account: settings and a data key.
///
/// # Errors
/// `ValidationError` of the alias.
pub fn found(founding: Founding<'_>, now: Timestamp) -> Result<Edit> {
    let created = Timestamp::from_second(now.as_second()).unwrap_or(now);
    if let Some(alias) = &founding.alias {
        check_alias(alias)?;
    }
    let id = founding.keys.current_id().to_owned();
    let record = DataKeyRecord::new(created, founding.wrapped);
    let settings = Settings {
        format: Format,
        account_id: founding.account,
        alias: founding.alias,
        created,
        data_key: id.clone(),
        quotas: Quotas::default(),
    };
    let edit = Edit::new(format!("Create account {}", founding.account));
    let edit = edit.put(paths::data_key(&id), &record)?;
    edit.put(SETTINGS.to_owned(), &settings)
}

/// Checks an alias: 3 to 63 lower-case letters, digits and single hyphens.
fn check_alias(alias: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let hyphens = alias.starts_with('-') || alias.ends_with('-') || alias.contains("--");
    if (3..=63).contains(&alias.len()) && alias.bytes().all(allowed) && !hyphens {
        return Ok(());
    }
    Err(IamError::validation("An alias has 3 to 63 lower-case letters, digits and single hyphens between them."))
}

impl Editor<'_> {
    /// `CreateAccountAlias`; with `None` `DeleteAccountAlias`.
    ///
    /// # Errors
    /// `ValidationError`.
    pub fn set_alias(&self, alias: Option<&str>) -> Result<Edit> {
        if let Some(alias) = alias {
            check_alias(alias)?;
        }
        let settings = Settings { alias: alias.map(str::to_owned), ..self.account.settings().clone() };
        Edit::new("Change the alias of the account").put(SETTINGS.to_owned(), &settings)
    }

    /// Changes a quota of the account.
    ///
    /// # Errors
    /// `LimitExceeded` of the document.
    pub fn set_quota(&self, quota: Quota, limit: u64) -> Result<Edit> {
        let settings = self.account.settings();
        let settings = Settings { quotas: settings.quotas.with(quota, limit), ..settings.clone() };
        Edit::new(format!("Set {} to {limit}", quota.as_str())).put(SETTINGS.to_owned(), &settings)
    }
}

/// Name of the group of an account's administrators.
pub const ADMINISTRATORS: &str = "Administrators";

/// First documents of an account with its first administrator: a user in the group [`ADMINISTRATORS`], whose access key
/// is told once, here.
///
/// # Errors
/// `ValidationError` of alias or name, `ServiceFailure` without randomness.
pub fn found_with_administrator(
    founding: Founding<'_>,
    name: &str,
    now: Timestamp,
    random: &dyn Random,
) -> Result<(Edit, NewAccessKey)> {
    let keys = founding.keys;
    let edit = found(founding, now)?;
    let mut account =
        Account::parse(edit.documents().filter_map(|(path, bytes)| Some((path, bytes?)))).map_err(wrong)?;
    let mut whole = edit;
    let mut apply = |account: &mut Account, edit: Edit| -> Result<()> {
        *account = account.with(edit.documents()).map_err(wrong)?;
        whole = std::mem::take(&mut whole).then(edit);
        Ok(())
    };
    let group = NewGroup { name: ADMINISTRATORS.to_owned(), path: None };
    let edit = Editor::new(&account, now, random).create_group(group)?;
    apply(&mut account, edit)?;
    let edit =
        Editor::new(&account, now, random).attach_policy(EntityKind::Group, ADMINISTRATORS, ADMINISTRATOR_ACCESS)?;
    apply(&mut account, edit)?;
    let edit = Editor::new(&account, now, random).create_user(NewUser::named(name))?;
    apply(&mut account, edit)?;
    let edit = Editor::new(&account, now, random).add_user_to_group(name, ADMINISTRATORS)?;
    apply(&mut account, edit)?;
    let (edit, key) = Editor::new(&account, now, random).create_access_key(name, keys)?;
    apply(&mut account, edit)?;
    Ok((whole, key))
}

/// A state that this build has just written does not read: a fault of this build.
fn wrong(error: AccountError) -> IamError {
    IamError::service_failure(error.to_string())
}
