//! Refspecs as in Git: `SOURCE:TARGET`, with one `*` on both sides or none.

use gix::bstr::{BStr, BString, ByteSlice};

use super::own_refs::OWN_PREFIX;
use super::refname::{MAX_REF_NAME_BYTES, check_ref_name};

/// Ordered list of refspecs. The first refspec whose source matches a ref applies.
#[derive(Clone, Debug, Default)]
pub struct Refspecs(Vec<Refspec>);

/// `SOURCE:TARGET`, with one `*` on both sides or none.
#[derive(Clone, Debug)]
struct Refspec {
    source: Side,
    target: Side,
}

/// One side of a [`Refspec`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Side {
    before: BString,
    /// Literal text after the `*`; `None` without a `*`.
    after: Option<BString>,
}

impl Refspecs {
    /// Parses refspecs.
    ///
    /// # Errors
    /// The first invalid refspec and the reason.
    pub fn new(texts: &[String]) -> Result<Self, String> {
        let mut refspecs: Vec<Refspec> = Vec::with_capacity(texts.len());
        for text in texts {
            let refspec = Refspec::parse(text).map_err(|reason| format!("`{text}`: {reason}"))?;
            if refspecs.iter().any(|other| other.source == refspec.source) {
                return Err(format!("`{text}`: another refspec has the same source"));
            }
            if refspecs.iter().any(|other| other.target == refspec.target) {
                return Err(format!("`{text}`: another refspec has the same target; two refs would become one"));
            }
            refspecs.push(refspec);
        }
        Ok(Refspecs(refspecs))
    }

    /// Target name of a ref; `None` if no refspec matches. The result may be an invalid ref name.
    pub fn target_of(&self, source: &BStr) -> Option<BString> {
        self.0.iter().find_map(|refspec| refspec.source.rewrite(&refspec.target, source))
    }

    /// Candidates for the source name of a target ref, one per matching refspec.
    pub fn sources_of(&self, target: &BStr) -> impl Iterator<Item = BString> {
        self.0.iter().filter_map(|refspec| refspec.target.rewrite(&refspec.source, target))
    }
}

impl Refspec {
    fn parse(text: &str) -> Result<Refspec, String> {
        let (source, target) = text.split_once(':').ok_or("it is not of the form SOURCE:TARGET")?;
        let source = Side::parse(source)?;
        let target = Side::parse(target)?;
        if source.after.is_some() != target.after.is_some() {
            return Err("a * on one side needs a * on the other".into());
        }
        if target.before.starts_with(OWN_PREFIX.as_bytes()) {
            return Err("refs/gitferry/ is gitferry's own namespace".into());
        }
        Ok(Refspec { source, target })
    }
}

impl Side {
    fn parse(text: &str) -> Result<Side, String> {
        if text.len() > MAX_REF_NAME_BYTES {
            return Err(format!("one side exceeds {MAX_REF_NAME_BYTES} bytes, the limit of a ref name"));
        }
        // With a letter in place of the `*`, the side must be a valid ref name.
        check_ref_name(BStr::new(&text.replacen('*', "x", 1))).map_err(|error| error.to_string())?;
        Ok(match text.split_once('*') {
            Some((before, after)) => Side { before: before.into(), after: Some(after.into()) },
            None => Side { before: text.into(), after: None },
        })
    }

    /// Rewrites a name that matches this side into the name on the `other` side; `None` without a match.
    fn rewrite(&self, other: &Side, name: &BStr) -> Option<BString> {
        let rest = name.strip_prefix(self.before.as_bytes())?;
        match (&self.after, &other.after) {
            (None, _) => rest.is_empty().then(|| other.before.clone()),
            (Some(after), other_after) => {
                // As in Git, the `*` matches at least one byte.
                let star = rest.strip_suffix(after.as_bytes()).filter(|star| !star.is_empty())?;
                let other_after = other_after.as_ref().map_or(&b""[..], |after| after);
                Some([other.before.as_bytes(), star, other_after].concat().into())
            }
        }
    }
}
