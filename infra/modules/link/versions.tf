# `aws` is the target's account and AWS region, where everything runs; `aws.source` is the source's.

terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source                = "hashicorp/aws"
      version               = ">= 6.0, < 7.0"
      configuration_aliases = [aws.source]
    }
  }
}

data "aws_partition" "current" {}
