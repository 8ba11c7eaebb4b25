# docs/aws.md says what to do when one goes off.

# The log has a line for each request. Health checks are no requests of clients.
locals {
  # Metrics have no dimensions: a filter takes those from the lines. The name space is the host's.
  metrics = "gitferry/${local.id}"
  filters = merge(var.audit ? { AuditFailing = local.audit_failing } : {}, {
    Requests        = "{ $.message = \"answered\" && $.span.path != \"/_*\" }"
    Errors          = "{ $.message = \"answered\" && $.status >= 500 && $.span.path != \"/_*\" }"
    NotReady        = "{ $.message = \"answered\" && $.status = 503 && $.span.path = \"/_ready\" }"
    PushesNotStored = "{ $.message = \"a push could not be stored\" || $.message = \"a push failed\" || $.message = \"the pre-receive hook failed; the push is declined\" }"
  })
  audit_failing = "{ $.message = \"records of the audit trail cannot be written; tried again\" || $.message = \"the audit trail loses records: its queue is full, as the sink takes none\" }"
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each       = local.filters
  name           = each.key
  log_group_name = aws_cloudwatch_log_group.this.name
  pattern        = each.value

  metric_transformation {
    namespace     = local.metrics
    name          = each.key
    value         = "1"
    default_value = "0"
  }
}

resource "aws_cloudwatch_metric_alarm" "unhealthy" {
  alarm_name          = "${local.id}-unhealthy"
  alarm_description   = "The load balancer finds tasks of the host ${var.region.name} that are not ready."
  namespace           = "AWS/NetworkELB"
  metric_name         = "UnHealthyHostCount"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.git.arn_suffix }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "none_healthy" {
  alarm_name          = "${local.id}-none-healthy"
  alarm_description   = "No task of the host ${var.region.name} is ready: clients are not served."
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  dimensions          = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.git.arn_suffix }
  statistic           = "Maximum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 2
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "errors" {
  alarm_name          = "${local.id}-errors"
  alarm_description   = "More than ${var.thresholds.errors} % of the requests to the host ${var.region.name} are answered with 5xx."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.thresholds.errors
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags

  metric_query {
    id          = "rate"
    label       = "Requests answered with 5xx, percent"
    expression  = "IF(requests > 0, 100 * errors / requests, 0)"
    return_data = true
  }

  metric_query {
    id = "errors"

    metric {
      namespace   = local.metrics
      metric_name = "Errors"
      stat        = "Sum"
      period      = 60
    }
  }

  metric_query {
    id = "requests"

    metric {
      namespace   = local.metrics
      metric_name = "Requests"
      stat        = "Sum"
      period      = 60
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "not_ready" {
  alarm_name          = "${local.id}-not-ready"
  alarm_description   = "Tasks of the host ${var.region.name} refuse readiness: stores are gone, swapped or rolled back, or replicas have changes that the region lacks."
  namespace           = local.metrics
  metric_name         = "NotReady"
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "pushes" {
  alarm_name          = "${local.id}-pushes"
  alarm_description   = "Pushes to the host ${var.region.name} are refused for reasons that are not the client's: they could not be stored, or a hook failed."
  namespace           = local.metrics
  metric_name         = "PushesNotStored"
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "audit" {
  count               = var.audit ? 1 : 0
  alarm_name          = "${local.id}-audit"
  alarm_description   = "The bus of the audit trail of the host ${var.region.name} takes no records: those that wait are lost when a queue is full or a task ends."
  namespace           = local.metrics
  metric_name         = "AuditFailing"
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}

resource "aws_cloudwatch_metric_alarm" "memory" {
  alarm_name          = "${local.id}-memory"
  alarm_description   = "A task of the host ${var.region.name} uses more than ${var.thresholds.memory} % of its memory."
  namespace           = "AWS/ECS"
  metric_name         = "MemoryUtilization"
  dimensions          = { ClusterName = local.cluster, ServiceName = local.id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.thresholds.memory
  period              = 60
  evaluation_periods  = 10
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topics
  ok_actions          = var.alarm_topics
  tags                = var.tags
}
