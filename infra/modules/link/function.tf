# The queue's batches, and a sweep every five minutes for what no event announced.

resource "aws_lambda_function" "worker" {
  count         = local.function ? 1 : 0
  function_name = local.id
  role          = aws_iam_role.worker.arn
  architectures = [var.architecture == "ARM64" ? "arm64" : "x86_64"]
  memory_size   = var.function.memory
  timeout       = var.function.timeout
  tags          = var.tags
  depends_on    = [aws_iam_role_policy.source, aws_iam_role_policy.target, aws_iam_role_policy.queues]

  package_type     = var.function_zip == null ? "Image" : "Zip"
  image_uri        = var.function_zip == null ? var.image : null
  filename         = var.function_zip
  source_code_hash = var.function_zip == null ? null : filebase64sha256(var.function_zip)
  runtime          = var.function_zip == null ? null : "provided.al2023"
  handler          = var.function_zip == null ? null : "bootstrap"

  dynamic "image_config" {
    for_each = var.function_zip == null ? [1] : []

    content {
      entry_point = ["/usr/local/bin/bootstrap"]
      command     = ["lambda"]
    }
  }

  environment {
    # Lambda's only folder that can be written.
    variables = merge(local.environment, { TMPDIR = "/tmp", XDG_CACHE_HOME = "/tmp" })
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this.name
  }
}

resource "aws_lambda_event_source_mapping" "queue" {
  count                              = local.function ? 1 : 0
  event_source_arn                   = aws_sqs_queue.events[0].arn
  function_name                      = aws_lambda_function.worker[0].arn
  batch_size                         = 10
  maximum_batching_window_in_seconds = 0
  function_response_types            = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.function.concurrency
  }
}

resource "aws_cloudwatch_event_rule" "sweep" {
  count               = local.function ? 1 : 0
  name                = "${local.id}-sweep"
  description         = "Finds what no event announced on the link ${var.name}"
  schedule_expression = "rate(5 minutes)"
  tags                = var.tags
}

resource "aws_cloudwatch_event_target" "sweep" {
  count     = local.function ? 1 : 0
  rule      = aws_cloudwatch_event_rule.sweep[0].name
  target_id = "function"
  arn       = aws_lambda_function.worker[0].arn
}

resource "aws_lambda_permission" "sweep" {
  count         = local.function ? 1 : 0
  statement_id  = "sweep"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.worker[0].function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.sweep[0].arn
}
