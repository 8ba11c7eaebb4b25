# docs/operations.md says what to do when one goes off.

locals {
  # How often there are figures: a service tells every minute, a function at least with every sweep.
  period = { service = 60, lambda = 300, schedule = 3600 * var.backup_every_hours }[var.run]
  backup = 3600 * var.backup_every_hours
}

resource "aws_cloudwatch_metric_alarm" "lag" {
  alarm_name          = "${local.id}-lag"
  alarm_description   = "A change has been committed in ${var.source_region.name} and is not in ${var.target_region.name}, or no worker reports."
  namespace           = "gitferry"
  metric_name         = "LagSeconds"
  dimensions          = { link = var.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.run == "schedule" ? max(var.thresholds.lag, local.backup) : var.thresholds.lag
  period              = local.period
  evaluation_periods  = 3
  datapoints_to_alarm = 3
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "forks" {
  alarm_name          = "${local.id}-forks"
  alarm_description   = "A repository has two histories; nothing is overwritten, and a person has to choose."
  namespace           = "gitferry"
  metric_name         = "Forks"
  dimensions          = { link = var.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = local.period
  evaluation_periods  = 1
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "packs_aside" {
  alarm_name          = "${local.id}-packs-aside"
  alarm_description   = "A pack in ${var.source_region.name} or ${var.target_region.name} is damaged; consolidation passes over it until it is mended."
  namespace           = "gitferry"
  metric_name         = "PacksAside"
  dimensions          = { link = var.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = local.period
  evaluation_periods  = 1
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  count               = local.events ? 1 : 0
  alarm_name          = "${local.id}-dead-letters"
  alarm_description   = "Events that no worker could act on; the attribute gitferry-reason says why."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters[0].name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "message_age" {
  count               = local.events ? 1 : 0
  alarm_name          = "${local.id}-message-age"
  alarm_description   = "Messages wait in the queue: no worker takes them, or they fail."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.events[0].name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.thresholds.message_age
  period              = 60
  evaluation_periods  = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "unverified" {
  count               = local.tasks ? 1 : 0
  alarm_name          = "${local.id}-unverified"
  alarm_description   = "A repository in ${var.target_region.name} has not been verified for too long."
  namespace           = "gitferry"
  metric_name         = "OldestUnverifiedSeconds"
  dimensions          = { link = var.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = max(var.thresholds.unverified, 2 * local.backup)
  period              = 3600
  evaluation_periods  = 1
  treat_missing_data  = "missing"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "recovery_point" {
  count               = local.tasks ? 1 : 0
  alarm_name          = "${local.id}-recovery-point"
  alarm_description   = "The last backups left a change older than their interval behind, or did not run."
  namespace           = "gitferry"
  metric_name         = "RecoveryPointAgeSeconds"
  dimensions          = { link = var.name }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = local.backup
  period              = local.backup
  evaluation_periods  = 2
  datapoints_to_alarm = 2
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}
