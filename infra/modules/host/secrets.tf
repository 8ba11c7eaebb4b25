# Secrets of the host. Terraform makes them without a value, so that none is in its state; docs/aws.md has the command that
# puts the first ones. A task reads them at its start, and its image makes files of them (docker/secret-files.rs).

resource "aws_kms_key" "secrets" {
  description         = "gitferry: secrets of the host of ${var.region.name}"
  enable_key_rotation = true
  tags                = var.tags
}

locals {
  # Every task shows clients the same host keys. With `iam` and `aws` the account has the keys of users.
  ssh_files = concat(["ssh_host_ecdsa_key", "ssh_host_ed25519_key"], var.auth == "tokens" ? ["ssh_authorized_keys"] : [])
  # Files that the configuration names.
  files = concat(
    var.auth == "tokens" ? ["tokens"] : [],
    # Hosts of all regions delegate clients to each other by the same key.
    var.auth == "aws" ? ["account_key"] : [],
    var.tls_pass_through ? ["tls_cert", "tls_key"] : [],
    var.ssh ? local.ssh_files : [],
  )
}

resource "aws_secretsmanager_secret" "this" {
  for_each                = toset(local.files)
  name                    = "${local.id}/${each.key}"
  description             = "gitferry: the file ${each.key} of the host of ${var.region.name}"
  kms_key_id              = aws_kms_key.secrets.arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}

# The task that founds the account writes it, and people read it. No host does.
resource "aws_secretsmanager_secret" "administrator" {
  count                   = local.iam ? 1 : 0
  name                    = "${local.id}/administrator"
  description             = "gitferry: access key of the administrator of the account that the host of ${var.region.name} has founded"
  kms_key_id              = aws_kms_key.secrets.arn
  recovery_window_in_days = var.deletion_protection ? 30 : 0
  tags                    = var.tags
}

locals {
  # ARNs by the names of files.
  secrets = merge({ for name, secret in aws_secretsmanager_secret.this : name => secret.arn }, var.secret_files)
}
