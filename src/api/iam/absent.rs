//! Things that an account of gitferry never has: passwords of a console, MFA devices, certificates, instance profiles.
//! Tools ask for them before they delete a user or a role.

use gitferry_iam::model::EntityKind;
use serde_json::Value;

use super::operation::{Ask, Read, listing, operation};
use crate::access::{Demand, Resource};
use crate::error::{ApiError, Result, shown};

/// Declares a list that is always empty, of a user's or a role's things.
macro_rules! empty_list {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* } => $list:literal, |$input:ident, $ask:ident| $resource:expr) => {
        listing!($name { $($(#[$attribute])* $field: $type),* });

        impl Read for $name {
            fn demands(&self, $ask: &Ask) -> Result<Vec<Demand>> {
                let $input = self;
                Ok(vec![$ask.demand::<Self>($resource)])
            }

            fn read(&self, _: &Ask) -> Result<Value> {
                Ok(self.page()?.of($list, std::iter::empty::<(String, ())>(), |()| Value::Null))
            }
        }
    };
}

empty_list!(ListMFADevices { user_name: Option<String> } => "MFADevices", |input, ask| {
    ask.user(ask.user_name(&input.user_name)?)
});
empty_list!(ListVirtualMFADevices { #[serde(rename = "AssignmentStatus")] _status: Option<String> } => "VirtualMFADevices", |_input, _ask| {
    Resource::none()
});
empty_list!(ListSigningCertificates { user_name: Option<String> } => "Certificates", |input, ask| {
    ask.user(ask.user_name(&input.user_name)?)
});
empty_list!(ListInstanceProfiles { path_prefix: Option<String> } => "InstanceProfiles", |input, ask| {
    ask.all("instance-profile", &input.path_prefix)
});
empty_list!(ListInstanceProfilesForRole { role_name: String } => "InstanceProfiles", |input, ask| {
    ask.entity(EntityKind::Role, &input.role_name)
});

operation!(GetLoginProfile { user_name: Option<String> });

impl Read for GetLoginProfile {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        Err(no_login(&ask.existing_owner(&self.user_name)?.name))
    }
}

operation!(DeleteLoginProfile { user_name: Option<String> });

impl Read for DeleteLoginProfile {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        Err(no_login(ask.user_name(&self.user_name)?))
    }
}

fn no_login(user: &str) -> ApiError {
    ApiError::no_such(format!("Login Profile for User {} cannot be found.", shown(user)))
}

operation!(GetAccountPasswordPolicy {});

impl Read for GetAccountPasswordPolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = ask.caller.account.id();
        Err(ApiError::no_such(format!("The Password Policy with domain name {account} cannot be found.")))
    }
}
