//! Permissions boundaries of users and roles.

use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::EntityKind;
use serde_json::Value;

use super::operation::{Ask, Change, operation};
use crate::access::Demand;
use crate::error::Result;

macro_rules! boundary_of {
    ($kind:ident $name:ident: $put:ident $delete:ident) => {
        operation!($put { $name: String, permissions_boundary: String });

        impl Change for $put {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                let demand = ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name));
                Ok(vec![demand.sets_boundary(Some(&self.permissions_boundary))])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                let edit = editor.set_boundary(EntityKind::$kind, &self.$name, Some(&self.permissions_boundary))?;
                Ok((edit, Value::Null))
            }
        }

        operation!($delete { $name: String });

        impl Change for $delete {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                let demand = ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name));
                Ok(vec![demand.within_boundary()])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                Ok((editor.set_boundary(EntityKind::$kind, &self.$name, None)?, Value::Null))
            }
        }
    };
}

boundary_of!(User user_name: PutUserPermissionsBoundary DeleteUserPermissionsBoundary);
boundary_of!(Role role_name: PutRolePermissionsBoundary DeleteRolePermissionsBoundary);
