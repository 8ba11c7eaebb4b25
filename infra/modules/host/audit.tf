# The audit trail: each request of a client is an event of a bus, whose rule takes it on to a log group. Other rules of the
# bus may take it elsewhere.

resource "aws_cloudwatch_event_bus" "audit" {
  count = var.audit ? 1 : 0
  name  = "${local.id}-audit"
  tags  = var.tags
}

resource "aws_cloudwatch_event_rule" "audit" {
  count          = var.audit ? 1 : 0
  name           = "${local.id}-audit"
  description    = "The audit trail of the Git host ${var.region.name}"
  event_bus_name = aws_cloudwatch_event_bus.audit[0].name
  event_pattern  = jsonencode({ source = ["gitferry.codecommit"] })
  tags           = var.tags
}

# EventBridge delivers to groups of this name space.
resource "aws_cloudwatch_log_group" "audit" {
  count             = var.audit ? 1 : 0
  name              = "/aws/events/${local.id}-audit"
  retention_in_days = var.audit_retention_days
  tags              = var.tags
}

resource "aws_cloudwatch_event_target" "audit" {
  count          = var.audit ? 1 : 0
  rule           = aws_cloudwatch_event_rule.audit[0].name
  event_bus_name = aws_cloudwatch_event_bus.audit[0].name
  target_id      = "log"
  arn            = aws_cloudwatch_log_group.audit[0].arn
}

locals {
  deliverers = ["events.amazonaws.com", "delivery.logs.amazonaws.com"]
}

data "aws_iam_policy_document" "audit_log" {
  count = var.audit ? 1 : 0

  statement {
    sid       = "MakeStream"
    actions   = ["logs:CreateLogStream"]
    resources = ["${aws_cloudwatch_log_group.audit[0].arn}:*"]

    principals {
      type        = "Service"
      identifiers = local.deliverers
    }
  }

  statement {
    sid       = "Deliver"
    actions   = ["logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.audit[0].arn}:*"]

    principals {
      type        = "Service"
      identifiers = local.deliverers
    }

    # EventBridge makes streams for no rule in particular.
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.audit[0].arn]
    }
  }
}

resource "aws_cloudwatch_log_resource_policy" "audit" {
  count           = var.audit ? 1 : 0
  policy_name     = "${local.id}-audit"
  policy_document = data.aws_iam_policy_document.audit_log[0].json
}

data "aws_iam_policy_document" "audit" {
  count = var.audit ? 1 : 0

  statement {
    sid       = "Record"
    actions   = ["events:PutEvents"]
    resources = [aws_cloudwatch_event_bus.audit[0].arn]
  }
}

resource "aws_iam_role_policy" "audit" {
  count  = var.audit ? 1 : 0
  name   = "audit"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.audit[0].json
}
