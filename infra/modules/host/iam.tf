# Roles of the task: the process serves its region and looks at the replicas; ECS pulls the image, reads the secrets and
# writes the log. account.tf has what `auth` adds, audit.tf the audit trail. docs/aws.md has the same lists; a test compares
# them.

locals {
  secrets_service = "secretsmanager.${data.aws_region.current.region}.amazonaws.com"
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "task" {
  name               = local.id
  description        = "The Git host of the gitferry region ${var.region.name}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "region" {
  name   = "region"
  role   = aws_iam_role.task.id
  policy = var.region.policies.host
}

data "aws_iam_policy_document" "assume_reader" {
  for_each = local.foreign

  statement {
    sid       = "AssumeReader"
    actions   = ["sts:AssumeRole"]
    resources = [each.value.region.reader.role_arn]
  }
}

resource "aws_iam_role_policy" "replica" {
  for_each = local.replicas
  name     = "replica-${each.key}"
  role     = aws_iam_role.task.id
  policy   = contains(keys(local.foreign), each.key) ? data.aws_iam_policy_document.assume_reader[each.key].json : each.value.region.policies.read
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }

  # A host without secrets has no statement about any: one without resources is not valid.
  dynamic "statement" {
    for_each = length(local.secrets) == 0 ? [] : [values(local.secrets)]

    content {
      sid       = "ReadSecrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }

  statement {
    sid       = "DecryptSecrets"
    actions   = ["kms:Decrypt"]
    resources = concat([aws_kms_key.secrets.arn], var.secret_keys)

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [local.secrets_service]
    }
  }

  dynamic "statement" {
    for_each = var.image_repository_arn == null ? [] : [var.image_repository_arn]

    content {
      sid       = "Pull"
      actions   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
      resources = [statement.value]
    }
  }

  dynamic "statement" {
    for_each = var.image_repository_arn == null ? [] : [var.image_repository_arn]

    content {
      sid     = "LogIn"
      actions = ["ecr:GetAuthorizationToken"]
      # A login is for no repository in particular.
      resources = ["*"]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${local.id}-execution"
  description        = "Starts tasks of the Git host of the gitferry region ${var.region.name}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "execution" {
  name   = "execution"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}
