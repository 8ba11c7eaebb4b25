# Tasks of ECS: the worker as a service, and the backup from time to time.

data "aws_iam_policy_document" "execution" {
  source_policy_documents = [data.aws_iam_policy_document.logs.json]

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
      # It is for no repository in particular.
      resources = ["*"]
    }
  }
}

resource "aws_iam_role" "execution" {
  count              = local.tasks ? 1 : 0
  name               = "${local.id}-execution"
  assume_role_policy = data.aws_iam_policy_document.worker_trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "execution" {
  count  = local.tasks ? 1 : 0
  name   = "execution"
  role   = aws_iam_role.execution[0].id
  policy = data.aws_iam_policy_document.execution.json
}

locals {
  container = {
    name        = "gitferry"
    image       = var.image
    essential   = true
    command     = ["worker", var.name, "--jobs", tostring(var.jobs), "--health", "0.0.0.0:8470", "--grace", "110s"]
    environment = [for name, value in local.environment : { name = name, value = value }]
    # Longer than the worker's --grace.
    stopTimeout            = 120
    readonlyRootFilesystem = true
    linuxParameters        = { initProcessEnabled = true }
    # The image's own folder, the only one that it writes to.
    mountPoints = [{ sourceVolume = "state", containerPath = "/var/lib/gitferry", readOnly = false }]

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = var.target_region.aws_region
        awslogs-stream-prefix = "gitferry"
      }
    }
  }
  health_check = {
    command     = ["CMD", "/usr/local/bin/gitferry", "health"]
    interval    = 30
    timeout     = 5
    retries     = 3
    startPeriod = 30
  }
}

resource "aws_ecs_task_definition" "worker" {
  count                    = var.run == "service" ? 1 : 0
  family                   = local.id
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task.cpu
  memory                   = var.task.memory
  task_role_arn            = aws_iam_role.worker.arn
  execution_role_arn       = aws_iam_role.execution[0].arn
  container_definitions    = jsonencode([merge(local.container, { healthCheck = local.health_check })])
  tags                     = var.tags

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  volume {
    name = "state"
  }
}

resource "aws_ecs_service" "worker" {
  count           = var.run == "service" ? 1 : 0
  name            = local.id
  cluster         = var.network.cluster_arn
  task_definition = aws_ecs_task_definition.worker[0].arn
  desired_count   = var.task.count
  launch_type     = "FARGATE"
  propagate_tags  = "SERVICE"
  tags            = var.tags
  # Its permissions are there when it starts, and until it has ended.
  depends_on = [aws_iam_role_policy.source, aws_iam_role_policy.target, aws_iam_role_policy.queues]

  network_configuration {
    subnets          = var.network.subnets
    security_groups  = var.network.security_groups
    assign_public_ip = var.network.assign_public_ip
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
}
