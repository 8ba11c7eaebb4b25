output "config" {
  description = "gitferry.toml of the link."
  value       = module.dr.config
}

output "host_config" {
  description = "gitferry.toml of a host in us-east-1, to which [hosts.us-east-1] is to be added."
  value       = module.host_config.toml
}

output "queue_url" {
  description = "The link's queue."
  value       = module.dr.queue_url
}

output "dead_letters_url" {
  description = "The link's dead letters."
  value       = module.dr.dead_letters_url
}

output "host_policy" {
  description = "What a host in us-east-1 may do, for its role."
  value       = module.us.host_policy
}
