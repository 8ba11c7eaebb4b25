# The tasks: each serves the region, and any number may at a time.

locals {
  container = {
    name        = "gitferry"
    image       = var.image
    essential   = true
    command     = ["up", "--host", var.region.name]
    environment = [for name, value in local.environment : { name = name, value = value }]
    # The image makes a file of each, and the process starts without the variables. A key is no text: it is in hexadecimal.
    secrets = [
      for name, arn in local.secrets : {
        name      = name == "account_key" ? "GITFERRY_HEX_${upper(name)}" : "GITFERRY_FILE_${upper(name)}"
        valueFrom = arn
      }
    ]
    portMappings           = [for port in values(local.ports) : { containerPort = port.task, protocol = "tcp" }]
    stopTimeout            = local.stop_seconds
    readonlyRootFilesystem = true
    # The image's own folder, the only one that it writes to.
    mountPoints = [{ sourceVolume = "state", containerPath = "/var/lib/gitferry", readOnly = false }]
    # A connection and an open pack take one each.
    ulimits = [{ name = "nofile", softLimit = 65535, hardLimit = 65535 }]

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = var.region.aws_region
        awslogs-stream-prefix = "gitferry"
        # A log that cannot be written must not stop the process.
        mode            = "non-blocking"
        max-buffer-size = "25m"
      }
    }
  }
  # Asks whether the process is alive, without TLS.
  health_check = {
    command     = ["CMD", "/usr/local/bin/gitferry", "health"]
    interval    = 30
    timeout     = 5
    retries     = 3
    startPeriod = 60
  }
}

resource "aws_ecs_task_definition" "host" {
  family                   = local.id
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task.cpu
  memory                   = var.task.memory
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn
  container_definitions    = jsonencode([merge(local.container, var.tls_pass_through ? {} : { healthCheck = local.health_check })])
  tags                     = var.tags

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  ephemeral_storage {
    size_in_gib = var.task.storage
  }

  volume {
    name = "state"
  }
}

resource "aws_ecs_service" "host" {
  name                               = local.id
  cluster                            = var.network.cluster_arn
  task_definition                    = aws_ecs_task_definition.host.arn
  desired_count                      = var.tasks.min
  launch_type                        = "FARGATE"
  propagate_tags                     = "SERVICE"
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 120
  tags                               = var.tags
  # The permissions are there when a task starts, and until it has ended.
  depends_on = [
    aws_iam_role_policy.region, aws_iam_role_policy.replica, aws_iam_role_policy.account, aws_iam_role_policy.aws,
    aws_iam_role_policy.audit, aws_iam_role_policy.execution, aws_lb_listener.git, aws_lb_listener.ssh,
    aws_security_group_rule.from_load_balancer, aws_security_group_rule.to_task, aws_security_group_rule.out,
  ]

  network_configuration {
    subnets          = var.network.subnets
    security_groups  = [aws_security_group.task.id]
    assign_public_ip = var.network.assign_public_ip
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.git.arn
    container_name   = "gitferry"
    container_port   = local.port
  }

  dynamic "load_balancer" {
    for_each = aws_lb_target_group.ssh

    content {
      target_group_arn = load_balancer.value.arn
      container_name   = "gitferry"
      container_port   = local.ssh_port
    }
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  lifecycle {
    # Autoscaling owns it.
    ignore_changes = [desired_count]
  }
}
