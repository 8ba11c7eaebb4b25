# Workers of other accounts read by assuming a role of this one.

data "aws_iam_policy_document" "reader_trust" {
  count = length(var.reader_accounts) == 0 ? 0 : 1

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type = "AWS"
      identifiers = [
        for account in var.reader_accounts : "arn:${data.aws_partition.current.partition}:iam::${account}:root"
      ]
    }

    condition {
      test     = "StringEquals"
      variable = "sts:ExternalId"
      values   = [var.reader_external_id]
    }
  }
}

resource "aws_iam_role" "reader" {
  count              = length(var.reader_accounts) == 0 ? 0 : 1
  name               = "gitferry-${var.name}-reader"
  description        = "Reads the gitferry region ${var.name} for workers of other accounts"
  assume_role_policy = data.aws_iam_policy_document.reader_trust[0].json
  tags               = var.tags
}

resource "aws_iam_role_policy" "reader" {
  count  = length(var.reader_accounts) == 0 ? 0 : 1
  name   = "read"
  role   = aws_iam_role.reader[0].id
  policy = data.aws_iam_policy_document.read.json
}
