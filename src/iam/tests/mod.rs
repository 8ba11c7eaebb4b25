//! Tests of whole accounts.
