//! The module `region`: what a region's stores have to have.

use crate::hcl_files::{Module, at};

fn is(of: &str, path: &str, value: &str) {
    let module = Module::read("region");
    assert_eq!(at(module.resource(of).body(), path), [value], "{of}: {path}");
}

#[test]
fn a_bucket_keeps_what_was_deleted_and_shows_nothing() {
    is("aws_s3_bucket_versioning", "versioning_configuration.status", "Enabled");
    for what in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"] {
        is("aws_s3_bucket_public_access_block", what, "true");
    }
    let encryption = "aws_s3_bucket_server_side_encryption_configuration";
    is(encryption, "rule.apply_server_side_encryption_by_default.sse_algorithm", "aws:kms");
    let key = "aws_kms_key.objects.arn";
    is(encryption, "rule.apply_server_side_encryption_by_default.kms_master_key_id", key);
    is(encryption, "rule.bucket_key_enabled", "true");
    is("aws_kms_key", "enable_key_rotation", "true");
}

#[test]
fn abandoned_uploads_end_after_gitferry_has_had_its_chance() {
    let module = Module::read("region");
    let rules = module.resource("aws_s3_bucket_lifecycle_configuration");
    let days = at(rules.body(), "rule.abort_incomplete_multipart_upload.days_after_initiation");
    assert_eq!(days, ["var.recovery_days + 1"]);
    // The module's window is the program's where neither says another one.
    let own = gitferry_config::RECOVERY_WINDOW.as_hours() / 24;
    let window = module.all("variable", "recovery_days");
    assert_eq!(at(window[0].body(), "default"), [own.to_string()]);
    assert_eq!(at(rules.body(), "rule.noncurrent_version_expiration.noncurrent_days"), ["var.noncurrent_days"]);
    assert_eq!(at(rules.body(), "rule.status"), ["Enabled", "Enabled"]);
}

#[test]
fn a_table_is_as_the_program_expects_it() {
    let table = "aws_dynamodb_table";
    is(table, "hash_key", "pk");
    is(table, "range_key", "sk");
    is(table, "ttl.attribute_name", gitferry_store::table::EXPIRES_MEMBER);
    is(table, "ttl.enabled", "true");
    is(table, "point_in_time_recovery.enabled", "true");
    is(table, "stream_enabled", "true");
    let module = Module::read("region");
    let table = module.resource(table).body();
    assert_eq!(
        (at(table, "attribute.name").join(" "), at(table, "attribute.type").join(" ")),
        ("pk sk".into(), "S S".into())
    );
}
