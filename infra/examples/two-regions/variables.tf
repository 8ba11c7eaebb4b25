variable "prefix" {
  description = "Start of the names of buckets, tables and buses, and name of networks and clusters; buckets share one name space with all of AWS."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{2,39}$", var.prefix))
    error_message = "prefix has 3 to 40 lower-case letters, digits and `-`."
  }
}

variable "domain" {
  description = "Name in DNS below which hosts have theirs: us-east-1.DOMAIN and eu-west-1.DOMAIN."
  type        = string
}

variable "zone_id" {
  description = "Public hosted zone of Route 53 that has `domain`."
  type        = string
}

variable "aws_regions" {
  description = "The two AWS regions."
  type        = list(string)
  default     = ["us-east-1", "eu-west-1"]

  validation {
    condition     = length(var.aws_regions) == 2 && length(distinct(var.aws_regions)) == 2
    error_message = "aws_regions are two."
  }
}

variable "links" {
  description = "Names of the links: from the first region to the second, and back."
  type        = list(string)
  default     = ["us-to-eu", "eu-to-us"]

  validation {
    condition     = length(var.links) == 2 && length(distinct(var.links)) == 2
    error_message = "links are two names."
  }
}

variable "run" {
  description = "Kind of the workers of links: `service`, `lambda` or `schedule`."
  type        = string
  default     = "service"
}

variable "images" {
  description = "The container image, as each AWS region pulls it."
  type        = list(string)

  validation {
    condition     = length(var.images) == 2
    error_message = "images are two: one for each AWS region."
  }
}

variable "image_repository_arns" {
  description = "ECR repositories that the images are in, which tasks may then pull them from; null for other registries."
  type        = list(string)
  default     = [null, null]
}

variable "architecture" {
  description = "Architecture of the image: ARM64 or X86_64."
  type        = string
  default     = "ARM64"
}

variable "function_zip" {
  description = "A zip file with the program as `bootstrap`, for `lambda`."
  type        = string
  default     = null
}

variable "networks" {
  description = "Networks that exist, one for each AWS region; null makes them."
  type = list(object({
    cluster_arn           = string
    vpc_id                = string
    subnets               = list(string)
    load_balancer_subnets = list(string)
    security_groups       = list(string)
    assign_public_ip      = bool
  }))
  default = null
}

variable "cidrs" {
  description = "IPv4 addresses of the networks that are made."
  type        = list(string)
  default     = ["10.20.0.0/16", "10.21.0.0/16"]
}

variable "egress" {
  description = "Way of tasks to the internet and to the other AWS region: `public` or `nat`."
  type        = string
  default     = "public"
}

variable "interface_endpoints" {
  description = "AWS services that tasks reach within the networks that are made, besides S3 and DynamoDB."
  type        = set(string)
  default     = []
}

variable "client_cidrs" {
  description = "IPv4 networks from which clients may connect."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "host_task" {
  description = "Size of a host's task: `task` of the module `host`."
  type = object({
    cpu         = optional(number)
    memory      = optional(number)
    storage     = optional(number)
    cache       = optional(number)
    connections = optional(number)
  })
  default = {}
}

variable "host_tasks" {
  description = "Least and largest number of tasks of each host."
  type = object({
    min = optional(number, 2)
    max = optional(number, 6)
  })
  default = {}
}

variable "auth" {
  description = "Ways for clients to prove who they are: `iam`, `aws` or `tokens`; `auth` of the module `host`."
  type        = string
  default     = "iam"
}

variable "aws_identities" {
  description = "With `aws`: `aws_identities` of the module `host`."
  type = object({
    roles       = optional(list(string))
    refresh     = optional(string)
    ssh_keys    = optional(bool)
    sts_regions = optional(list(string))
  })
  default = {}
}

variable "aws_cli_image" {
  description = "Image of the AWS command line, with which the task that founds the account puts the administrator's access key into Secrets Manager."
  type        = string
  default     = "public.ecr.aws/aws-cli/aws-cli:2.22.0"
}

variable "audit" {
  description = "True if the audit trail of hosts goes to an event bus, and from there to a log group."
  type        = bool
  default     = true
}

variable "quotas" {
  description = "Limits of what clients use at each host: `quotas` of the module `host`."
  type = object({
    repositories        = optional(number)
    repository_size     = optional(string)
    size                = optional(string)
    repository_lfs_size = optional(string)
    lfs_size            = optional(string)
    requests_per_minute = optional(number)
  })
  default = null
}

variable "ssh" {
  description = "Whether hosts take SSH on port 22."
  type        = bool
  default     = true
}

variable "worker_tasks" {
  description = "Number of tasks of each link that runs as a service."
  type        = number
  default     = 1
}

variable "alarm_topics" {
  description = "ARNs of the SNS topics that alarms notify, of each AWS region."
  type        = list(list(string))
  default     = [[], []]
}

variable "deletion_protection" {
  description = "True if load balancers, tables and buckets that are not empty refuse to be destroyed."
  type        = bool
  default     = true
}

variable "endpoint_url" {
  description = "URL at which processes reach all services, if not at AWS."
  type        = string
  default     = null
}
