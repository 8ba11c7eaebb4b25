//! Terraform files, parsed.

use std::path::{Path, PathBuf};

use hcl::{Block, Body, Expression};

/// A path below the repository's root.
pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// All blocks of a module.
pub struct Module(Vec<Block>);

impl Module {
    /// The module in `infra/modules/NAME`.
    pub fn read(name: &str) -> Module {
        let folder = root("infra/modules").join(name);
        let mut blocks = Vec::new();
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "tf") {
                let text = std::fs::read_to_string(&path).unwrap();
                let body = hcl::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                blocks.extend(body.blocks().cloned());
            }
        }
        assert!(!blocks.is_empty(), "{}", folder.display());
        Module(blocks)
    }

    /// All blocks `KIND "TYPE" "…"`.
    pub fn all(&self, kind: &str, of: &str) -> Vec<&Block> {
        let matches = |block: &&Block| block.identifier() == kind && block.labels()[0].as_str() == of;
        self.0.iter().filter(matches).collect()
    }

    /// All blocks `locals`.
    pub fn locals(&self) -> Vec<&Block> {
        self.0.iter().filter(|block| block.identifier() == "locals").collect()
    }

    /// The only resource of a type.
    pub fn resource(&self, of: &str) -> &Block {
        let [one] = self.all("resource", of)[..] else { panic!("not exactly one {of}") };
        one
    }

    /// The `data "aws_iam_policy_document"` of a name.
    pub fn policy(&self, name: &str) -> &Block {
        let all = self.all("data", "aws_iam_policy_document");
        all.into_iter().find(|block| block.labels()[1].as_str() == name).unwrap_or_else(|| panic!("no policy {name}"))
    }
}

/// All values at a path such as `rule.filter.prefix`; texts without their quotes.
pub fn at(body: &Body, path: &str) -> Vec<String> {
    match path.split_once('.') {
        Some((block, rest)) => {
            body.blocks().filter(|inner| inner.identifier() == block).flat_map(|inner| at(inner.body(), rest)).collect()
        }
        None => body.attributes().filter(|attribute| attribute.key() == path).map(|found| text(found.expr())).collect(),
    }
}

/// An expression as it would be written, a text without its quotes.
pub fn text(expression: &Expression) -> String {
    match expression {
        Expression::String(text) => text.clone(),
        Expression::TemplateExpr(template) => template.to_string(),
        other => hcl::format::to_string(other).unwrap(),
    }
}

/// All texts in an expression.
pub fn words(expression: &str) -> Vec<String> {
    expression.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}
