//! [`Report`]: status report that ends a push (`report-status`).

use std::io::{self, Write};

use gix::bstr::BString;

use super::request::PushCapabilities;
use crate::protocol::{Band, MAX_PAYLOAD_BYTES, PacketWriter, Sideband};

/// Longest reason per ref in bytes; longer ones are truncated.
const MAX_REASON_BYTES: usize = 1000;

/// Outcome of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Name of the ref as the client sent it.
    pub name: BString,
    /// Reason for the refusal, if the command was refused.
    pub result: Result<(), String>,
}

/// Outcome of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Reason why the pack was refused, if it was.
    pub unpack: Result<(), String>,
    /// Outcomes in the order of the commands.
    pub refs: Vec<Outcome>,
    /// Lines shown to the user of the client.
    pub messages: Vec<String>,
}

impl Report {
    /// Returns true if the pack and every command were accepted.
    pub fn is_ok(&self) -> bool {
        self.unpack.is_ok() && self.refs.iter().all(|outcome| outcome.result.is_ok())
    }

    /// Writes messages and report in the form that the client requested. Nothing may follow.
    pub fn write(&self, capabilities: &PushCapabilities, out: &mut dyn Write) -> io::Result<()> {
        let wants_report = capabilities.report_status || capabilities.report_status_v2;
        if !capabilities.side_band_64k {
            if wants_report {
                self.write_status(&mut PacketWriter::new(&mut *out))?;
            }
            return out.flush();
        }
        let mut bands = Sideband::large(&mut *out);
        for message in &self.messages {
            bands.message(Band::Progress, format!("{message}\n").as_bytes())?;
        }
        if wants_report {
            self.write_status(&mut PacketWriter::new(&mut bands))?;
        }
        bands.finish()?;
        PacketWriter::new(out).flush_packet()
    }

    /// Writes the report, which is the same for `report-status-v2`: option lines describe refs that were updated in
    /// another way than requested, which gitferry never does.
    fn write_status<W: Write>(&self, out: &mut PacketWriter<W>) -> io::Result<()> {
        match &self.unpack {
            Ok(()) => out.line(b"unpack ok")?,
            Err(reason) => out.line(format!("unpack {}", one_line(reason)).as_bytes())?,
        }
        for Outcome { name, result } in &self.refs {
            // Leaves room for the reason: the name arrived in a packet with two ids, which are shorter.
            let name = &name[..name.len().min(MAX_PAYLOAD_BYTES - MAX_REASON_BYTES - 8)];
            match result {
                Ok(()) => out.parts(&[b"ok ", name, b"\n"])?,
                Err(reason) => out.parts(&[b"ng ", name, b" ", one_line(reason).as_bytes(), b"\n"])?,
            }
        }
        out.flush_packet()
    }
}

/// Replaces control characters by spaces, and truncates to [`MAX_REASON_BYTES`].
fn one_line(reason: &str) -> String {
    let mut line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(MAX_REASON_BYTES));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let outcome = |name: &str, result| Outcome { name: name.into(), result };
        Report {
            unpack: Ok(()),
            refs: vec![outcome("refs/heads/a", Ok(())), outcome("refs/heads/b", Err("fetch first".into()))],
            messages: vec!["hello".into()],
        }
    }

    fn written(report: &Report, capabilities: PushCapabilities) -> String {
        let mut out = Vec::new();
        report.write(&capabilities, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn in_bands_and_without() {
        let plain = PushCapabilities { report_status: true, ..PushCapabilities::default() };
        let status = "000eunpack ok\n0014ok refs/heads/a\n0020ng refs/heads/b fetch first\n0000";
        assert_eq!(written(&report(), plain.clone()), status);
        let bands = PushCapabilities { side_band_64k: true, ..plain };
        let expected = format!("000b\x02hello\n{:04x}\x01{status}0000", status.len() + 5);
        assert_eq!(written(&report(), bands), expected);
        assert_eq!(written(&report(), PushCapabilities::default()), "");
    }

    #[test]
    fn reasons_are_one_short_line() {
        assert_eq!(one_line("a\nb"), "a b");
        let cut = one_line(&"ä".repeat(1000));
        assert!(cut.len() <= MAX_REASON_BYTES && cut.starts_with('ä'));
        assert_eq!(one_line(""), "");
    }
}
