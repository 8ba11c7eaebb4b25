# Who may do what: the account of the region (`iam`), or an account of AWS IAM (`aws`).

locals {
  iam = var.auth == "iam"
  aws = var.auth == "aws"
  # Each seals the data keys of the account; the key of one region is enough to open them.
  account_keys = concat(aws_kms_key.account[*].arn, var.account_kms_keys)
  account = var.auth == "tokens" ? null : {
    kms_keys     = local.iam ? local.account_keys : null
    key          = local.aws ? "${local.secrets_folder}/account_key" : null
    endpoint_url = var.endpoint_url
    aws = local.aws ? {
      id          = data.aws_caller_identity.current.account_id
      roles       = var.aws_identities.roles
      refresh     = var.aws_identities.refresh
      ssh_keys    = var.aws_identities.ssh_keys
      sts_regions = var.aws_identities.sts_regions
    } : null
  }
}

resource "aws_kms_key" "account" {
  count               = local.iam ? 1 : 0
  description         = "gitferry: seals the data keys of the account, in ${var.region.name}"
  enable_key_rotation = true
  tags                = var.tags
}

# Data keys of an account carry the account and their own id as the encryption context: hosts open nothing else.
data "aws_iam_policy_document" "account" {
  count = local.iam ? 1 : 0

  statement {
    sid       = "OpenDataKeys"
    actions   = ["kms:Decrypt"]
    resources = local.account_keys

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "kms:EncryptionContextKeys"
      values   = ["gitferry:account", "gitferry:data-key"]
    }

    condition {
      test     = "Null"
      variable = "kms:EncryptionContextKeys"
      values   = ["false"]
    }
  }
}

resource "aws_iam_role_policy" "account" {
  count  = local.iam ? 1 : 0
  name   = "account"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.account[0].json
}

# The account of AWS IAM is read every minute.
data "aws_iam_policy_document" "aws" {
  count = local.aws ? 1 : 0

  statement {
    sid     = "ReadAccount"
    actions = ["iam:GetAccountAuthorizationDetails"]
    # The details are those of the account: no ARN narrows them.
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = var.aws_identities.ssh_keys ? [data.aws_caller_identity.current.account_id] : []

    content {
      sid       = "ReadSshKeys"
      actions   = ["iam:GetSSHPublicKey", "iam:ListSSHPublicKeys"]
      resources = ["arn:${data.aws_partition.current.partition}:iam::${statement.value}:user/*"]
    }
  }
}

resource "aws_iam_role_policy" "aws" {
  count  = local.aws ? 1 : 0
  name   = "aws"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.aws[0].json
}
