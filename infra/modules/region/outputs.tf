output "region" {
  description = "All that a link has to know of this region."
  value = {
    name            = var.name
    aws_region      = data.aws_region.current.region
    account         = data.aws_caller_identity.current.account_id
    bucket          = aws_s3_bucket.objects.bucket
    table           = aws_dynamodb_table.this.name
    recovery_window = "${var.recovery_days}d"
    bus             = var.bus == "default" ? "default" : aws_cloudwatch_event_bus.this[0].name
    bus_arn         = local.bus_arn
    reader = length(var.reader_accounts) == 0 ? null : {
      role_arn    = aws_iam_role.reader[0].arn
      external_id = var.reader_external_id
    }
    policies = {
      read  = data.aws_iam_policy_document.read.json
      write = data.aws_iam_policy_document.write.json
      host  = data.aws_iam_policy_document.host.json
    }
  }
}

output "read_policy" {
  description = "What reading the region takes: a link's source."
  value       = data.aws_iam_policy_document.read.json
}

output "write_policy" {
  description = "What writing the region takes: a link's target that announces nothing."
  value       = data.aws_iam_policy_document.write.json
}

output "host_policy" {
  description = "What committing and announcing takes: a host, or a link's target."
  value       = data.aws_iam_policy_document.host.json
}

output "stream_arn" {
  description = "The table's stream, for programs that follow all changes of the region."
  value       = aws_dynamodb_table.this.stream_arn
}
