output "clone_urls" {
  description = "URLs that clients clone and push to, by region; the first push of a name creates the repository."
  value       = { (local.first) = "${module.host_first.url}/NAME", (local.second) = "${module.host_second.url}/NAME" }
}

output "first_start" {
  description = "The command that makes the regions, the account and its first administrator, and starts what was made; from this folder. It may be run again."
  value = join(" ", concat(
    ["../../first-start", "--auth", var.auth],
    var.ssh ? ["--ssh"] : [],
    [local.services.host_first, local.services.host_second],
    var.run == "service" ? ["--workers", local.services.to_second, local.services.to_first] : [],
  ))
}

output "administrator" {
  description = "ARN of the secret with the access key of the first administrator; null without `iam`."
  value       = module.host_first.administrator
}

output "ssh_urls" {
  description = "URLs over SSH by region; null without `ssh`. With `iam` and `aws`, KEY-ID is the id of an SSH key of a user."
  value = var.ssh ? {
    (local.first)  = "${module.host_first.ssh_url}/NAME"
    (local.second) = "${module.host_second.ssh_url}/NAME"
  } : null
}

output "audit" {
  description = "Event buses and log groups of the audit trail, by region."
  value       = { (local.first) = module.host_first.audit, (local.second) = module.host_second.audit }
}

output "config" {
  description = "gitferry.toml of both regions and links, for commands on another machine."
  value       = module.config.toml
}

output "services" {
  description = "AWS region, cluster and service of hosts and workers, for ../../run-task."
  value       = local.services
}

output "load_balancers" {
  description = "DNS names of the load balancers."
  value       = { (local.first) = module.host_first.load_balancer.dns_name, (local.second) = module.host_second.load_balancer.dns_name }
}

output "host_configs" {
  description = "gitferry.toml of the hosts."
  value       = { (local.first) = module.host_first.config, (local.second) = module.host_second.config }
}

output "link_configs" {
  description = "gitferry.toml of the links' workers."
  value       = { (var.links[0]) = module.to_second.config, (var.links[1]) = module.to_first.config }
}

locals {
  services = {
    host_first  = "${var.aws_regions[0]}/${module.host_first.cluster}/${module.host_first.service}"
    host_second = "${var.aws_regions[1]}/${module.host_second.cluster}/${module.host_second.service}"
    to_second   = "${var.aws_regions[1]}/${module.host_second.cluster}/gitferry-${var.links[0]}"
    to_first    = "${var.aws_regions[0]}/${module.host_first.cluster}/gitferry-${var.links[1]}"
  }
}

# Both regions and links, without queues: for an operator who looks, not for a worker.
module "config" {
  source = "../../modules/config"

  regions = {
    for region in [module.region_first.region, module.region_second.region] : region.name => {
      aws_region      = region.aws_region
      bucket          = region.bucket
      table           = region.table
      recovery_window = region.recovery_window
      endpoint_url    = var.endpoint_url
    }
  }
  links = local.links
}
