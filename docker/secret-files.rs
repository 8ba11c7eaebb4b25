//! `secret-files FOLDER PROGRAM [ARGUMENT…]`: makes files of the secrets in the environment, then becomes the program.
//!
//! ECS passes secrets of Secrets Manager as environment variables. A variable `GITFERRY_FILE_TLS_KEY` becomes the file
//! `FOLDER/tls_key`, which only its owner may read; a variable `GITFERRY_HEX_ACCOUNT_KEY`, whose value is hexadecimal, the
//! file `FOLDER/account_key` of its bytes. The program starts without these variables, as its environment may be read in
//! more places than its files. No value is printed or passed as an argument. The image compiles this file alone, with the
//! standard library.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Start of the names of variables whose text becomes a file.
const TEXT: &str = "GITFERRY_FILE_";
/// Start of the names of variables whose hexadecimal digits become a file of bytes.
const HEX: &str = "GITFERRY_HEX_";
/// Exit code for a wrong use, a wrong variable and a file that cannot be written.
const FAILURE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(folder), Some(program)) = (arguments.next(), arguments.next()) else {
        return fail("usage: secret-files FOLDER PROGRAM [ARGUMENT…]");
    };
    let secrets: Vec<(OsString, OsString)> = env::vars_os().filter(|(name, _)| prefix(name).is_some()).collect();
    let mut command = Command::new(&program);
    command.args(arguments);
    for (variable, value) in &secrets {
        if let Err(reason) = write(Path::new(&folder), variable, value) {
            return fail(&reason);
        }
        command.env_remove(variable);
    }
    let error = command.exec();
    fail(&format!("{} cannot be started: {error}", program.display()))
}

fn fail(reason: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "secret-files: {reason}");
    ExitCode::from(FAILURE)
}

/// The prefix of a variable that becomes a file.
fn prefix(variable: &OsStr) -> Option<&'static str> {
    [TEXT, HEX].into_iter().find(|prefix| variable.as_bytes().starts_with(prefix.as_bytes()))
}

/// Writes the file of one variable. The error names the variable or the file, and never has the value.
fn write(folder: &Path, variable: &OsStr, value: &OsStr) -> Result<(), String> {
    let name = file_name(variable)?;
    if value.is_empty() {
        return Err(format!("{} is empty: give the secret a value", variable.display()));
    }
    let content = content(variable, value.as_bytes())?;
    let file = folder.join(&name);
    let unfinished = folder.join(format!(".{name}.unfinished"));
    let written = make_folder(folder).and_then(|()| {
        // Left by a start that was cut off.
        let _ = fs::remove_file(&unfinished);
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        opened.write_all(&content)?;
        fs::rename(&unfinished, &file)
    });
    written.map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

/// The content of the file.
fn content(variable: &OsStr, value: &[u8]) -> Result<Vec<u8>, String> {
    if prefix(variable) == Some(HEX) {
        let not_hex = || format!("{} is not hexadecimal", variable.display());
        return bytes(value.trim_ascii()).ok_or_else(not_hex);
    }
    let mut content = value.to_vec();
    // Keys in PEM end in a line break, which the services that keep secrets tend to lose.
    if !content.ends_with(b"\n") {
        content.push(b'\n');
    }
    Ok(content)
}

/// Bytes of pairs of hexadecimal digits.
fn bytes(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(*high)? << 4) | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// Makes the folder, for its owner alone.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

/// `GITFERRY_FILE_TLS_KEY` → `tls_key`
fn file_name(variable: &OsStr) -> Result<String, String> {
    let prefix = prefix(variable).unwrap_or_default();
    let name = &variable.as_bytes()[prefix.len()..];
    let allowed = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    if name.is_empty() || !name.iter().all(allowed) {
        return Err(format!("{} is not {prefix} and capital letters, digits or `_`", variable.display()));
    }
    Ok(name.iter().map(|byte| char::from(byte.to_ascii_lowercase())).collect())
}
