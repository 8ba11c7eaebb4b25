# Two regions of one account and a link between them.

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
  region = "eu-west-1"
}

provider "aws" {
  alias  = "us"
  region = "us-east-1"
}

module "us" {
  source    = "../../modules/region"
  providers = { aws = aws.us }

  name                = "us-east-1"
  bucket              = "${var.prefix}-us-east-1"
  table               = "${var.prefix}-us-east-1"
  bus                 = "${var.prefix}-us-east-1"
  deletion_protection = var.deletion_protection
}

module "eu" {
  source = "../../modules/region"

  name                = "eu-west-1"
  bucket              = "${var.prefix}-eu-west-1"
  table               = "${var.prefix}-eu-west-1"
  bus                 = "${var.prefix}-eu-west-1"
  deletion_protection = var.deletion_protection
}

module "dr" {
  source    = "../../modules/link"
  providers = { aws = aws, aws.source = aws.us }

  name          = var.link
  source_region = module.us.region
  target_region = module.eu.region
  run           = var.run
  image         = var.image
  function_zip  = var.function_zip
  network       = var.network
  task          = { count = var.tasks }
  alarm_topics  = var.alarm_topics
  endpoint_url  = var.endpoint_url
}

# A host of the source: what takes the pushes.
module "host_config" {
  source = "../../modules/config"

  regions = {
    us-east-1 = {
      aws_region      = module.us.region.aws_region
      bucket          = module.us.region.bucket
      table           = module.us.region.table
      recovery_window = module.us.region.recovery_window
      bus             = module.us.region.bus
      endpoint_url    = var.endpoint_url
    }
  }
}
