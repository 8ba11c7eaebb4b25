output "config" {
  description = "The text of the link's gitferry.toml."
  value       = module.config.toml
}

output "worker_role_arn" {
  description = "The role of the worker or function that replicates."
  value       = aws_iam_role.worker.arn
}

output "queue_url" {
  description = "The queue of events; null with `schedule`."
  value       = local.events ? aws_sqs_queue.events[0].url : null
}

output "dead_letters_url" {
  description = "The queue of events that no worker could act on; null with `schedule`."
  value       = local.events ? aws_sqs_queue.dead_letters[0].url : null
}
