# From the source's bus to the target's, where these are in different AWS regions or accounts.

locals {
  forward = local.events && local.forwards
}

resource "aws_cloudwatch_event_rule" "forward" {
  provider       = aws.source
  count          = local.forward ? 1 : 0
  name           = "${local.id}-forward"
  description    = "What changed in ${var.source_region.name}, to ${var.target_region.name}"
  event_bus_name = var.source_region.bus
  event_pattern  = local.pattern
  tags           = var.tags
}

resource "aws_cloudwatch_event_target" "forward" {
  provider       = aws.source
  count          = local.forward ? 1 : 0
  rule           = aws_cloudwatch_event_rule.forward[0].name
  event_bus_name = var.source_region.bus
  target_id      = "bus"
  arn            = var.target_region.bus_arn
  role_arn       = aws_iam_role.forward[0].arn
}

data "aws_iam_policy_document" "forward_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [var.source_region.account]
    }
  }
}

data "aws_iam_policy_document" "forward" {
  statement {
    actions   = ["events:PutEvents"]
    resources = [var.target_region.bus_arn]
  }
}

resource "aws_iam_role" "forward" {
  provider           = aws.source
  count              = local.forward ? 1 : 0
  name               = "${local.id}-forward"
  assume_role_policy = data.aws_iam_policy_document.forward_trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "forward" {
  provider = aws.source
  count    = local.forward ? 1 : 0
  name     = "forward"
  role     = aws_iam_role.forward[0].id
  policy   = data.aws_iam_policy_document.forward.json
}

resource "aws_cloudwatch_event_permission" "source_account" {
  count          = local.forward && local.other_account ? 1 : 0
  statement_id   = "${local.id}-source"
  event_bus_name = var.target_region.bus
  action         = "events:PutEvents"
  principal      = var.source_region.account
}
