# Bus → rule → queue, all in the target's AWS region.

locals {
  # Where the events arrive: forwarded ones on the target's bus.
  bus = local.forwards ? var.target_region.bus : var.source_region.bus
  # Only what the source announces: the bus has the target's own changes, too.
  pattern = jsonencode({
    source      = ["gitferry", "aws.codecommit"]
    detail-type = ["CodeCommit Repository State Change"]
    account     = [var.source_region.account]
    region      = [var.source_region.aws_region]
  })
}

resource "aws_sqs_queue" "dead_letters" {
  count                     = local.events ? 1 : 0
  name                      = "${local.id}-dead-letters"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

resource "aws_sqs_queue" "events" {
  count = local.events ? 1 : 0
  name  = local.id
  # A worker deletes a message as soon as its mark is durable; Lambda asks for six times a function's time.
  visibility_timeout_seconds = local.function ? 6 * var.function.timeout : 120
  message_retention_seconds  = 345600
  receive_wait_time_seconds  = 20
  sqs_managed_sse_enabled    = true
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters[0].arn
    maxReceiveCount     = 10
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  count     = local.events ? 1 : 0
  queue_url = aws_sqs_queue.dead_letters[0].id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.events[0].arn]
  })
}

resource "aws_cloudwatch_event_rule" "changes" {
  count          = local.events ? 1 : 0
  name           = local.id
  description    = "What changed in ${var.source_region.name}, for the link ${var.name}"
  event_bus_name = local.bus
  event_pattern  = local.pattern
  tags           = var.tags
}

resource "aws_cloudwatch_event_target" "queue" {
  count          = local.events ? 1 : 0
  rule           = aws_cloudwatch_event_rule.changes[0].name
  event_bus_name = local.bus
  target_id      = "queue"
  arn            = aws_sqs_queue.events[0].arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters[0].arn
  }
}

data "aws_iam_policy_document" "queue" {
  for_each = local.events ? {
    events       = aws_sqs_queue.events[0].arn
    dead_letters = aws_sqs_queue.dead_letters[0].arn
  } : {}

  statement {
    sid       = "Rule"
    actions   = ["sqs:SendMessage"]
    resources = [each.value]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.changes[0].arn]
    }
  }
}

resource "aws_sqs_queue_policy" "events" {
  count     = local.events ? 1 : 0
  queue_url = aws_sqs_queue.events[0].id
  policy    = data.aws_iam_policy_document.queue["events"].json
}

resource "aws_sqs_queue_policy" "dead_letters" {
  count     = local.events ? 1 : 0
  queue_url = aws_sqs_queue.dead_letters[0].id
  policy    = data.aws_iam_policy_document.queue["dead_letters"].json
}
