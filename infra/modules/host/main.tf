# The Git host of a region: configuration and log of its tasks.

locals {
  id      = "gitferry-${var.region.name}"
  cluster = element(split("/", var.network.cluster_arn), 1)
  url     = "https://${var.domain}"
  # Ports of the process, and of the load balancer.
  port     = 8411
  ssh_port = 8422
  ports    = merge({ git = { clients = 443, task = local.port } }, var.ssh ? { ssh = { clients = 22, task = local.ssh_port } } : {})
  # A task that is stopped takes no new connections once the load balancer knows, and then has as long as Fargate gives
  # it. The process cuts off what is left a little earlier, and says so in its log.
  deregistration_seconds = 60
  stop_seconds           = 120
  grace_seconds          = 110
  secrets_folder         = "/var/lib/gitferry/secrets"

  # Regions that this one is replicated to: the host looks there whether its own stores were rolled back.
  replicas = { for name, peer in var.peers : name => peer if anytrue([
    for link in values(var.links) : link.source == var.region.name && link.target == name
  ]) }
  foreign = { for name, peer in local.replicas : name => peer if peer.region.account != var.region.account }
}

module "config" {
  source = "../config"

  regions = merge(
    {
      for name, peer in var.peers : name => {
        aws_region      = peer.region.aws_region
        bucket          = peer.region.bucket
        table           = peer.region.table
        recovery_window = peer.region.recovery_window
        role_arn        = contains(keys(local.foreign), name) ? peer.region.reader.role_arn : null
        external_id     = contains(keys(local.foreign), name) ? peer.region.reader.external_id : null
        endpoint_url    = var.endpoint_url
      }
    },
    {
      (var.region.name) = {
        aws_region      = var.region.aws_region
        bucket          = var.region.bucket
        table           = var.region.table
        recovery_window = var.region.recovery_window
        bus             = var.region.bus
        cache           = "${var.task.cache} GiB"
        endpoint_url    = var.endpoint_url
      }
    },
  )

  links = { for name, link in var.links : name => {
    source       = link.source
    target       = link.target
    repositories = link.repositories
  } }

  account = local.account

  hosts = merge(
    { for name, peer in var.peers : name => { url = peer.url, auth = var.auth } },
    {
      (var.region.name) = {
        listen         = "0.0.0.0:${local.port}"
        url            = local.url
        auth           = var.auth
        tokens         = "${local.secrets_folder}/tokens"
        create_on_push = var.create_on_push
        limits         = { connections = var.task.connections, grace = "${local.grace_seconds}s" }
        ssh = var.ssh ? {
          listen          = "0.0.0.0:${local.ssh_port}"
          host_keys       = local.secrets_folder
          authorized_keys = var.auth == "tokens" ? "${local.secrets_folder}/ssh_authorized_keys" : null
        } : null
        audit  = one(aws_cloudwatch_event_bus.audit[*].name)
        quotas = var.quotas
        tls = var.tls_pass_through ? {
          cert = "${local.secrets_folder}/tls_cert"
          key  = "${local.secrets_folder}/tls_key"
        } : null
      }
    },
  )
}

locals {
  environment = {
    GITFERRY_CONFIG_TOML = module.config.toml
    GITFERRY_HEALTH      = "127.0.0.1:${local.port}"
    GITFERRY_LOG         = "info"
    GITFERRY_LOG_FORMAT  = "json"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${local.id}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}
