# What a process may do here, by what it is. docs/operations.md has the same lists; a test compares them.

# A link's source is read.
data "aws_iam_policy_document" "read" {
  statement {
    sid       = "ReadTable"
    actions   = ["dynamodb:GetItem", "dynamodb:Query"]
    resources = [aws_dynamodb_table.this.arn]
  }

  statement {
    sid       = "ReadObjects"
    actions   = ["s3:GetObject"]
    resources = ["${aws_s3_bucket.objects.arn}/*"]
  }

  statement {
    sid       = "ListObjects"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.objects.arn]
  }

  statement {
    sid       = "Decrypt"
    actions   = ["kms:Decrypt"]
    resources = concat([aws_kms_key.objects.arn], var.repository_kms_keys)
  }
}

# A link's target is read and written.
data "aws_iam_policy_document" "write" {
  source_policy_documents = [data.aws_iam_policy_document.read.json]

  statement {
    sid = "WriteTable"
    actions = [
      "dynamodb:ConditionCheckItem",
      "dynamodb:DeleteItem",
      "dynamodb:PutItem",
      "dynamodb:UpdateItem",
    ]
    resources = [aws_dynamodb_table.this.arn]
  }

  statement {
    sid = "WriteObjects"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:ListMultipartUploadParts",
      "s3:PutObject",
    ]
    resources = ["${aws_s3_bucket.objects.arn}/*"]
  }

  statement {
    sid       = "ListUploads"
    actions   = ["s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.objects.arn]
  }

  statement {
    sid       = "Encrypt"
    actions   = ["kms:GenerateDataKey"]
    resources = concat([aws_kms_key.objects.arn], var.repository_kms_keys)
  }
}

# Who commits announces: a host its pushes, a worker what it has delivered.
data "aws_iam_policy_document" "host" {
  source_policy_documents = [data.aws_iam_policy_document.write.json]

  statement {
    sid       = "Announce"
    actions   = ["events:PutEvents"]
    resources = [local.bus_arn]
  }
}
