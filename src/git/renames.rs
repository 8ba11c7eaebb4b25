//! Other names for refs, by refspecs as Git has them: `SOURCE:TARGET` with one star on both sides or none.

use gix::bstr::{BStr, BString, ByteSlice};

use super::own_refs::OWN_PREFIX;
use super::refname::{MAX_REF_NAME_BYTES, check_ref_name};

/// Renames of refs. The first that fits counts.
#[derive(Clone, Debug, Default)]
pub struct Renames(Vec<Rename>);

/// `SOURCE:TARGET` with one star on both sides or none.
#[derive(Clone, Debug)]
struct Rename {
    from: Side,
    to: Side,
}

/// One side of a [`Rename`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Side {
    before: BString,
    /// What follows the star, if there is one.
    after: Option<BString>,
}

impl Renames {
    /// Checks and keeps renames.
    ///
    /// # Errors
    /// The one that makes no sense, and why.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        let mut renames: Vec<Rename> = Vec::with_capacity(texts.len());
        for text in texts {
            let rename = Rename::parse(text).map_err(|reason| format!("`{text}`: {reason}"))?;
            if renames.iter().any(|other| other.from == rename.from) {
                return Err(format!("`{text}`: another one has the same source"));
            }
            if renames.iter().any(|other| other.to == rename.to) {
                return Err(format!("`{text}`: another one has the same target; two refs would be one"));
            }
            renames.push(rename);
        }
        Ok(Renames(renames))
    }

    /// The other name of a ref; `None` where none fits. It need not be one that a ref can have.
    pub fn of(&self, source: &BStr) -> Option<BString> {
        self.0.iter().find_map(|rename| rename.from.rewrite(&rename.to, source))
    }

    /// What may have been called so before, by each of the renames.
    pub fn back(&self, target: &BStr) -> impl Iterator<Item = BString> {
        self.0.iter().filter_map(|rename| rename.to.rewrite(&rename.from, target))
    }
}

impl Rename {
    fn parse(text: &str) -> Result<Rename, String> {
        let (from, to) = text.split_once(':').ok_or("it is not of the form SOURCE:TARGET")?;
        let (from, to) = (Side::parse(from)?, Side::parse(to)?);
        if from.after.is_some() != to.after.is_some() {
            return Err("a * on one side needs one on the other".into());
        }
        if to.before.starts_with(OWN_PREFIX.as_bytes()) {
            return Err("refs/gitferry/ is gitferry's own".into());
        }
        Ok(Rename { from, to })
    }
}

impl Side {
    fn parse(text: &str) -> Result<Side, String> {
        if text.len() > MAX_REF_NAME_BYTES {
            return Err("it is longer than any ref".into());
        }
        // With a letter for the star it has to be a name.
        check_ref_name(BStr::new(&text.replacen('*', "x", 1))).map_err(|error| error.to_string())?;
        Ok(match text.split_once('*') {
            Some((before, after)) => Side { before: before.into(), after: Some(after.into()) },
            None => Side { before: text.into(), after: None },
        })
    }

    /// The name on the other side, of a name that this side fits.
    fn rewrite(&self, other: &Side, name: &BStr) -> Option<BString> {
        let rest = name.strip_prefix(self.before.as_bytes())?;
        match (&self.after, &other.after) {
            (None, _) => rest.is_empty().then(|| other.before.clone()),
            (Some(after), other_after) => {
                // As in a refspec, the star stands for something.
                let star = rest.strip_suffix(after.as_bytes()).filter(|star| !star.is_empty())?;
                let other_after = other_after.as_ref().map_or(&b""[..], |after| after);
                Some([other.before.as_bytes(), star, other_after].concat().into())
            }
        }
    }
}
