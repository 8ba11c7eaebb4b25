variable "name" {
  description = "Name of the VPC and of the ECS cluster."
  type        = string
  default     = "gitferry"
}

variable "cidr" {
  description = "IPv4 addresses of the VPC: a network of 16 to 24 bits."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.cidr)) && contains(range(16, 25), try(tonumber(split("/", var.cidr)[1]), 0))
    error_message = "cidr is an IPv4 network of 16 to 24 bits, such as 10.20.0.0/16."
  }
}

variable "zones" {
  description = "Number of availability zones: 2 or 3."
  type        = number
  default     = 2

  validation {
    condition     = contains([2, 3], var.zones)
    error_message = "zones is 2 or 3: a load balancer needs two."
  }
}

variable "egress" {
  description = "Way of tasks to the internet and to other AWS regions: `public` (a public IPv4 address for each task; no inbound traffic but from the load balancer) or `nat` (private subnets behind NAT gateways)."
  type        = string
  default     = "public"

  validation {
    condition     = contains(["public", "nat"], var.egress)
    error_message = "egress is public or nat."
  }
}

variable "nat_gateways" {
  description = "Number of NAT gateways with `nat`: 1, or one for each zone, so that the loss of a zone cuts off no other."
  type        = number
  default     = 1

  validation {
    condition     = contains([1, var.zones], var.nat_gateways)
    error_message = "nat_gateways is 1 or the number of zones."
  }
}

variable "interface_endpoints" {
  description = "AWS services of this region that tasks reach within the VPC, such as ecr.api, ecr.dkr, logs, secretsmanager, sqs, events, kms. S3 and DynamoDB of this region always are, by gateway endpoints, which cost nothing."
  type        = set(string)
  default     = []
}

variable "container_insights" {
  description = "Container Insights of the cluster: `disabled`, `enabled` or `enhanced`. CloudWatch charges for its metrics."
  type        = string
  default     = "disabled"
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
