output "url" {
  description = "URL of the host. A repository is cloned from URL/NAME."
  value       = local.url
}

output "ssh_url" {
  description = "URL of the host over SSH; null without `ssh`. With `iam` and `aws` the user is the id of an SSH key."
  value       = var.ssh ? "ssh://${var.auth == "tokens" ? "git" : "KEY-ID"}@${var.domain}" : null
}

output "account_kms_key" {
  description = "ARN of the KMS key that seals the data keys of the account in this region, for `account_kms_keys` of other hosts; null without `iam`."
  value       = one(aws_kms_key.account[*].arn)
}

output "administrator" {
  description = "ARN of the secret that has the administrator's access key once the account is founded here; null without `iam`."
  value       = one(aws_secretsmanager_secret.administrator[*].arn)
}

output "audit" {
  description = "Event bus and log group of the audit trail; null without `audit`."
  value = var.audit ? {
    bus       = aws_cloudwatch_event_bus.audit[0].name
    log_group = aws_cloudwatch_log_group.audit[0].name
  } : null
}

output "config" {
  description = "The text of the host's gitferry.toml."
  value       = module.config.toml
}

output "service" {
  description = "Name of the ECS service, and of its task definitions."
  value       = local.id
}

output "cluster" {
  description = "Name of the ECS cluster."
  value       = local.cluster
}

output "secrets" {
  description = "ARNs of the secrets by the names of the files that tasks make of them."
  value       = local.secrets
}

output "load_balancer" {
  description = "DNS name and hosted zone of the load balancer, for records that the module does not make."
  value = {
    dns_name = aws_lb.this.dns_name
    zone_id  = aws_lb.this.zone_id
  }
}

output "task_role_arn" {
  description = "The role of the process."
  value       = aws_iam_role.task.arn
}

output "log_group" {
  description = "The log group of the tasks."
  value       = aws_cloudwatch_log_group.this.name
}
