locals {
  id       = "gitferry-${var.name}"
  events   = var.run != "schedule"
  function = var.run == "lambda"
  tasks    = !local.function
  # Two AWS regions, or two accounts: events go from bus to bus.
  other_account = var.source_region.account != var.target_region.account
  forwards      = local.other_account || var.source_region.aws_region != var.target_region.aws_region
}

module "config" {
  source = "../config"

  regions = {
    (var.source_region.name) = {
      aws_region      = var.source_region.aws_region
      bucket          = var.source_region.bucket
      table           = var.source_region.table
      recovery_window = var.source_region.recovery_window
      role_arn        = local.other_account ? var.source_region.reader.role_arn : null
      external_id     = local.other_account ? var.source_region.reader.external_id : null
      endpoint_url    = var.endpoint_url
    }
    (var.target_region.name) = {
      aws_region      = var.target_region.aws_region
      bucket          = var.target_region.bucket
      table           = var.target_region.table
      recovery_window = var.target_region.recovery_window
      bus             = var.target_region.bus
      endpoint_url    = var.endpoint_url
    }
  }

  links = {
    (var.name) = {
      source       = var.source_region.name
      target       = var.target_region.name
      repositories = var.repositories
      queue        = local.events ? aws_sqs_queue.events[0].url : null
      dead_letters = local.events ? aws_sqs_queue.dead_letters[0].url : null
      endpoint_url = local.events ? var.endpoint_url : null
      aws_region   = var.target_region.aws_region
    }
  }
}

locals {
  environment = {
    GITFERRY_CONFIG_TOML = module.config.toml
    GITFERRY_LINKS       = var.name
    GITFERRY_JOBS        = tostring(var.jobs)
    GITFERRY_METRICS     = "emf"
    GITFERRY_LOG         = "info"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = local.function ? "/aws/lambda/${local.id}" : "/ecs/${local.id}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}
