# A Git host in each of two AWS regions of one account, and links in both directions.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

provider "aws" {
  alias  = "first"
  region = var.aws_regions[0]
}

provider "aws" {
  alias  = "second"
  region = var.aws_regions[1]
}

locals {
  # Regions have the names of their AWS regions.
  first   = var.aws_regions[0]
  second  = var.aws_regions[1]
  domains = { for name in var.aws_regions : name => "${name}.${var.domain}" }
  links = {
    (var.links[0]) = { source = local.first, target = local.second }
    (var.links[1]) = { source = local.second, target = local.first }
  }
}

module "network_first" {
  source    = "../../modules/network"
  providers = { aws = aws.first }
  count     = var.networks == null ? 1 : 0

  name                = "${var.prefix}-${local.first}"
  cidr                = var.cidrs[0]
  egress              = var.egress
  interface_endpoints = var.interface_endpoints
}

module "network_second" {
  source    = "../../modules/network"
  providers = { aws = aws.second }
  count     = var.networks == null ? 1 : 0

  name                = "${var.prefix}-${local.second}"
  cidr                = var.cidrs[1]
  egress              = var.egress
  interface_endpoints = var.interface_endpoints
}

locals {
  network_first  = var.networks == null ? module.network_first[0].network : var.networks[0]
  network_second = var.networks == null ? module.network_second[0].network : var.networks[1]
}

module "region_first" {
  source    = "../../modules/region"
  providers = { aws = aws.first }

  name                = local.first
  bucket              = "${var.prefix}-${local.first}"
  table               = "${var.prefix}-${local.first}"
  bus                 = "${var.prefix}-${local.first}"
  deletion_protection = var.deletion_protection
}

module "region_second" {
  source    = "../../modules/region"
  providers = { aws = aws.second }

  name                = local.second
  bucket              = "${var.prefix}-${local.second}"
  table               = "${var.prefix}-${local.second}"
  bus                 = "${var.prefix}-${local.second}"
  deletion_protection = var.deletion_protection
}

module "host_first" {
  source    = "../../modules/host"
  providers = { aws = aws.first }

  region               = module.region_first.region
  peers                = { (local.second) = { region = module.region_second.region, url = "https://${local.domains[local.second]}" } }
  auth                 = var.auth
  account_kms_keys     = var.auth == "iam" ? [module.host_second.account_kms_key] : []
  aws_identities       = var.aws_identities
  aws_cli_image        = var.aws_cli_image
  audit                = var.audit
  quotas               = var.quotas
  links                = local.links
  domain               = local.domains[local.first]
  zone                 = { id = var.zone_id }
  image                = var.images[0]
  image_repository_arn = var.image_repository_arns[0]
  architecture         = var.architecture
  network              = local.network_first
  task                 = var.host_task
  tasks                = var.host_tasks
  ssh                  = var.ssh
  client_cidrs         = var.client_cidrs
  deletion_protection  = var.deletion_protection
  alarm_topics         = var.alarm_topics[0]
  endpoint_url         = var.endpoint_url
}

module "host_second" {
  source    = "../../modules/host"
  providers = { aws = aws.second }

  region               = module.region_second.region
  peers                = { (local.first) = { region = module.region_first.region, url = "https://${local.domains[local.first]}" } }
  auth                 = var.auth
  account_kms_keys     = var.auth == "iam" ? [module.host_first.account_kms_key] : []
  aws_identities       = var.aws_identities
  aws_cli_image        = var.aws_cli_image
  audit                = var.audit
  quotas               = var.quotas
  links                = local.links
  domain               = local.domains[local.second]
  zone                 = { id = var.zone_id }
  image                = var.images[1]
  image_repository_arn = var.image_repository_arns[1]
  architecture         = var.architecture
  network              = local.network_second
  task                 = var.host_task
  tasks                = var.host_tasks
  ssh                  = var.ssh
  client_cidrs         = var.client_cidrs
  deletion_protection  = var.deletion_protection
  alarm_topics         = var.alarm_topics[1]
  endpoint_url         = var.endpoint_url
}

# Each link runs in the AWS region of its target.
module "to_second" {
  source    = "../../modules/link"
  providers = { aws = aws.second, aws.source = aws.first }

  name                 = var.links[0]
  source_region        = module.region_first.region
  target_region        = module.region_second.region
  run                  = var.run
  image                = var.images[1]
  image_repository_arn = var.image_repository_arns[1]
  architecture         = var.architecture
  function_zip         = var.function_zip
  network              = local.network_second
  task                 = { count = var.worker_tasks }
  alarm_topics         = var.alarm_topics[1]
  endpoint_url         = var.endpoint_url
}

module "to_first" {
  source    = "../../modules/link"
  providers = { aws = aws.first, aws.source = aws.second }

  name                 = var.links[1]
  source_region        = module.region_second.region
  target_region        = module.region_first.region
  run                  = var.run
  image                = var.images[0]
  image_repository_arn = var.image_repository_arns[0]
  architecture         = var.architecture
  function_zip         = var.function_zip
  network              = local.network_first
  task                 = { count = var.worker_tasks }
  alarm_topics         = var.alarm_topics[0]
  endpoint_url         = var.endpoint_url
}

# Names of an earlier version of this example.
moved {
  from = module.us
  to   = module.region_first
}

moved {
  from = module.eu
  to   = module.region_second
}

moved {
  from = module.dr
  to   = module.to_second
}
