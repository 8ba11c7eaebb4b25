//! Conversion of SQLite's errors to [`TableError`].

use std::path::Path;

use rusqlite::ErrorCode;

use super::open::OpenError;
use crate::table::TableError;
use gitferry_base::Kind;

/// Converts an error from opening the file.
pub(super) fn opening(table: &str, path: &Path, error: OpenError) -> TableError {
    let at = path.display();
    match error {
        OpenError::Sqlite(error) => during(table, path, error, false),
        OpenError::Io(error) => match Kind::of_io(&error) {
            Kind::Transient => {
                let reason = format!("{at}: {error}");
                TableError::Unavailable { table: table.to_owned(), reason, ambiguous: false }
            }
            _ => environment(table, format!("cannot create {at}: {error}")),
        },
        OpenError::Newer { found, known } => environment(
            table,
            format!("{at} was written by a newer gitferry (schema {found}, this build reads {known}): upgrade it"),
        ),
        OpenError::Empty => environment(
            table,
            format!(
                "{at} contains no table: it is empty, or its creation was interrupted; mount or configure the right \
                 file, or restore it from a backup"
            ),
        ),
        OpenError::Foreign => {
            environment(table, format!("{at} is a SQLite database of another program: configure another file"))
        }
    }
}

/// Converts an error from a write before its commit, which has changed nothing.
pub(super) fn writing(table: &str, path: &Path, error: rusqlite::Error) -> TableError {
    during(table, path, error, false)
}

/// Converts an error from a statement. `commit` marks a COMMIT, which may have reached the disk.
pub(super) fn during(table: &str, path: &Path, error: rusqlite::Error, commit: bool) -> TableError {
    let at = path.display();
    let Some(sqlite) = error.sqlite_error() else {
        // The error comes from rusqlite: a column has an unexpected type.
        return TableError::Corrupt { table: table.to_owned(), reason: format!("{at}: {error}") };
    };
    let unavailable = |ambiguous| TableError::Unavailable {
        table: table.to_owned(),
        reason: format!("{at}: {error} (SQLite code {})", sqlite.extended_code),
        ambiguous,
    };
    match sqlite.code {
        ErrorCode::DiskFull => environment(table, format!("the disk of {at} is full: make room and run again")),
        ErrorCode::ReadOnly => environment(
            table,
            format!("{at} is read-only: make the file and its directory writable for this user, or remount the disk"),
        ),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            let hint = "check that its directory exists, is writable for this user and has room";
            environment(table, format!("cannot open {at}: {error}; {hint}"))
        }
        ErrorCode::SystemIoFailure if commit => unavailable(true),
        ErrorCode::SystemIoFailure => {
            let code = sqlite.extended_code;
            environment(
                table,
                format!("the disk of {at} failed: {error} (SQLite code {code}); check the disk and the quota"),
            )
        }
        ErrorCode::NotADatabase => {
            let reason = format!("{at} is not a SQLite database, or its first page is damaged; restore a backup");
            TableError::Corrupt { table: table.to_owned(), reason }
        }
        ErrorCode::DatabaseCorrupt => {
            TableError::Corrupt { table: table.to_owned(), reason: format!("{at}: {error}; restore it from a backup") }
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => TableError::Unavailable {
            table: table.to_owned(),
            reason: format!("another process holds the lock of {at}: {error}"),
            ambiguous: false,
        },
        ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch => {
            TableError::Invalid { table: table.to_owned(), reason: format!("{at}: {error}") }
        }
        _ => unavailable(commit),
    }
}

fn environment(table: &str, reason: String) -> TableError {
    TableError::Environment { table: table.to_owned(), reason }
}
