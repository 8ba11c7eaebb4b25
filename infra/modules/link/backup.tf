# EventBridge Scheduler → RunTask of `gitferry backup`.

resource "aws_ecs_task_definition" "backup" {
  count                    = local.tasks ? 1 : 0
  family                   = "${local.id}-backup"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task.cpu
  memory                   = var.task.memory
  task_role_arn            = aws_iam_role.worker.arn
  execution_role_arn       = aws_iam_role.execution[0].arn
  tags                     = var.tags

  container_definitions = jsonencode([merge(local.container, {
    command = ["backup", var.name, "--max-age", "${var.backup_every_hours}h", "--jobs", tostring(var.jobs)]
  })])

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  volume {
    name = "state"
  }
}

resource "aws_scheduler_schedule" "backup" {
  count               = local.tasks ? 1 : 0
  name                = "${local.id}-backup"
  description         = "Replicates and verifies the link ${var.name}"
  schedule_expression = "rate(${var.backup_every_hours} ${var.backup_every_hours == 1 ? "hour" : "hours"})"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = var.network.cluster_arn
    role_arn = aws_iam_role.scheduler[0].arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.backup[0].arn
      launch_type         = "FARGATE"

      network_configuration {
        subnets          = var.network.subnets
        security_groups  = var.network.security_groups
        assign_public_ip = var.network.assign_public_ip
      }
    }

    retry_policy {
      maximum_retry_attempts = 3
    }
  }
}

data "aws_iam_policy_document" "scheduler_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.target_region.account]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  count = local.tasks ? 1 : 0

  statement {
    sid       = "Run"
    actions   = ["ecs:RunTask"]
    resources = [aws_ecs_task_definition.backup[0].arn]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [var.network.cluster_arn]
    }
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.worker.arn, aws_iam_role.execution[0].arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "scheduler" {
  count              = local.tasks ? 1 : 0
  name               = "${local.id}-scheduler"
  assume_role_policy = data.aws_iam_policy_document.scheduler_trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "scheduler" {
  count  = local.tasks ? 1 : 0
  name   = "run"
  role   = aws_iam_role.scheduler[0].id
  policy = data.aws_iam_policy_document.scheduler[0].json
}
