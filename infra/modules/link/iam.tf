# Who replicates: reads the source, writes the target, takes from the queue. Nothing else.

data "aws_iam_policy_document" "worker_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [local.function ? "lambda.amazonaws.com" : "ecs-tasks.amazonaws.com"]
    }
  }
}

# In another account the source is read by assuming its role; the bytes then go through the worker.
data "aws_iam_policy_document" "assume_reader" {
  count = local.other_account ? 1 : 0

  statement {
    sid       = "AssumeReader"
    actions   = ["sts:AssumeRole"]
    resources = [var.source_region.reader.role_arn]
  }
}

data "aws_iam_policy_document" "queues" {
  count = local.events ? 1 : 0

  statement {
    sid = "Receive"
    actions = concat(
      ["sqs:DeleteMessage", "sqs:ReceiveMessage"],
      # Lambda polls, with the function's role; and what the deadline cuts off is sent again.
      local.function ? ["sqs:GetQueueAttributes", "sqs:SendMessage"] : [],
    )
    resources = [aws_sqs_queue.events[0].arn]
  }

  statement {
    sid       = "DeadLetter"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letters[0].arn]
  }
}

data "aws_iam_policy_document" "logs" {
  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }
}

resource "aws_iam_role" "worker" {
  name               = local.id
  assume_role_policy = data.aws_iam_policy_document.worker_trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "source" {
  name   = "source"
  role   = aws_iam_role.worker.id
  policy = local.other_account ? data.aws_iam_policy_document.assume_reader[0].json : var.source_region.policies.read
}

resource "aws_iam_role_policy" "target" {
  name   = "target"
  role   = aws_iam_role.worker.id
  policy = var.target_region.policies.host
}

resource "aws_iam_role_policy" "queues" {
  count  = local.events ? 1 : 0
  name   = "queues"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.queues[0].json
}

# A task's logs are written by its execution role.
resource "aws_iam_role_policy" "logs" {
  count  = local.function ? 1 : 0
  name   = "logs"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.logs.json
}
