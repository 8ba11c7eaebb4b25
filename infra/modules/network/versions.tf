terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

data "aws_region" "current" {}

data "aws_availability_zones" "available" {
  state = "available"

  # Local zones and Wavelength zones have no network load balancers of the region.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}
