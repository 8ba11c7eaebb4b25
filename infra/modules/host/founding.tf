# Tasks that run once, with a role that may seal data keys: `found` makes the account and its administrator, `admin` is for
# other commands, such as `gitferry iam data-key rotate`.

locals {
  access_key = "/var/lib/gitferry/administrator.json"
  # Tasks that run once have no clients.
  once = merge(local.container, {
    command      = ["iam", "user", "list", "--region", var.region.name]
    portMappings = []
  })

  # The access key goes into a file, and no log shows it.
  found = merge(local.once, {
    command   = ["iam", "init", "--region", var.region.name, "--access-key", local.access_key, "--again"]
    essential = false
  })
  # Starts when the account is founded.
  keep = {
    name      = "keep"
    image     = var.aws_cli_image
    essential = true
    dependsOn = [{ containerName = local.found.name, condition = "SUCCESS" }]
    # The owner of the file.
    user = "65532:65532"
    command = concat(
      ["secretsmanager", "put-secret-value", "--region", var.region.aws_region, "--output", "text", "--query", "Name"],
      ["--secret-id", one(aws_secretsmanager_secret.administrator[*].arn), "--secret-string", "file://${local.access_key}"],
      var.endpoint_url == null ? [] : ["--endpoint-url", var.endpoint_url],
    )
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "state", containerPath = "/var/lib/gitferry", readOnly = true }]
    logConfiguration       = local.container.logConfiguration
  }
}

resource "aws_ecs_task_definition" "once" {
  for_each                 = local.iam ? { admin = jsonencode([local.once]), found = jsonencode([local.found, local.keep]) } : {}
  family                   = "${local.id}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  task_role_arn            = aws_iam_role.admin[0].arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = each.value
  tags                     = var.tags

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  volume {
    name = "state"
  }
}

resource "aws_iam_role" "admin" {
  count              = local.iam ? 1 : 0
  name               = "${local.id}-admin"
  description        = "Founds and rotates the account of the gitferry region ${var.region.name}"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

# What the host may do.
resource "aws_iam_role_policy" "admin_region" {
  count  = local.iam ? 1 : 0
  name   = "region"
  role   = aws_iam_role.admin[0].id
  policy = var.region.policies.host
}

resource "aws_iam_role_policy" "admin_replica" {
  for_each = { for name, replica in aws_iam_role_policy.replica : name => replica.policy if local.iam }
  name     = "replica-${each.key}"
  role     = aws_iam_role.admin[0].id
  policy   = each.value
}

resource "aws_iam_role_policy" "admin_account" {
  count  = local.iam ? 1 : 0
  name   = "account"
  role   = aws_iam_role.admin[0].id
  policy = data.aws_iam_policy_document.account[0].json
}

data "aws_iam_policy_document" "admin" {
  count = local.iam ? 1 : 0

  statement {
    sid       = "SealDataKeys"
    actions   = ["kms:Encrypt"]
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

  statement {
    sid       = "KeepAccessKey"
    actions   = ["secretsmanager:PutSecretValue"]
    resources = aws_secretsmanager_secret.administrator[*].arn
  }

  statement {
    sid       = "EncryptAccessKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.secrets.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [local.secrets_service]
    }
  }
}

resource "aws_iam_role_policy" "admin" {
  count  = local.iam ? 1 : 0
  name   = "admin"
  role   = aws_iam_role.admin[0].id
  policy = data.aws_iam_policy_document.admin[0].json
}
