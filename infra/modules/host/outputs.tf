output "url" {
  description = "URL of the host. A repository is cloned from URL/NAME."
  value       = local.url
}

output "ssh_url" {
  description = "URL of the host over SSH; null without `ssh`."
  value       = var.ssh ? "ssh://git@${var.domain}" : null
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
