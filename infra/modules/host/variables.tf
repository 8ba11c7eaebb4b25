variable "region" {
  description = "The output `region` of the module that made the region which the host serves."
  type = object({
    name            = string
    aws_region      = string
    account         = string
    bucket          = string
    table           = string
    recovery_window = string
    bus             = string
    policies        = object({ read = string, write = string, host = string })
  })

  validation {
    # The load balancer and its target groups have names of 32 characters at most.
    condition     = length(var.region.name) <= 19
    error_message = "The name of a region with a host has 19 characters at most."
  }
}

variable "peers" {
  description = "Other regions by name: the output `region` of each, and the URL of its host. Pushes to replicas are forwarded there."
  type = map(object({
    url = string
    region = object({
      name            = string
      aws_region      = string
      account         = string
      bucket          = string
      table           = string
      recovery_window = string
      reader          = object({ role_arn = string, external_id = string })
      policies        = object({ read = string, write = string, host = string })
    })
  }))
  default = {}
}

variable "links" {
  description = "Links between the region and its peers, by name. The host creates no repository that a link brings, and refuses pushes while a replica has changes that its own region lacks."
  type = map(object({
    source       = string
    target       = string
    repositories = optional(list(string), ["*"])
  }))
  default = {}

  validation {
    condition     = alltrue([for link in values(var.links) : contains(concat([var.region.name], keys(var.peers)), link.source) && contains(concat([var.region.name], keys(var.peers)), link.target)])
    error_message = "Both ends of a link are the region or one of the peers."
  }

  validation {
    condition = alltrue([
      for link in values(var.links) : try(var.peers[link.target].region.account == var.region.account || var.peers[link.target].region.reader != null, true)
    ])
    error_message = "A replica is in another account; name this host's account in its reader_accounts."
  }
}

variable "domain" {
  description = "Name of the host in DNS, such as us-east-1.git.example.com. Clients use https://DOMAIN/REPOSITORY."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9-]+)+$", var.domain))
    error_message = "domain is a name in DNS in lower case, such as git.example.com."
  }
}

variable "zone" {
  description = "Public hosted zone of Route 53 in which the module makes the record of `domain`, and the certificate's proof. Null leaves both to others."
  type        = object({ id = string })
  default     = null
}

variable "certificate" {
  description = "Certificate of ACM for `domain`, with which the load balancer ends TLS. Null makes one, which needs `zone`."
  type        = object({ arn = string })
  default     = null

  validation {
    condition     = var.certificate != null || var.zone != null || var.tls_pass_through
    error_message = "A host needs zone, certificate or tls_pass_through."
  }

  validation {
    condition     = !(var.tls_pass_through && var.certificate != null)
    error_message = "With tls_pass_through the host has its own certificate: leave out certificate."
  }
}

variable "tls_pass_through" {
  description = "True if the load balancer passes TLS through to the host, which has certificate and key from the secrets `tls_cert` and `tls_key`: traffic is then encrypted up to the task."
  type        = bool
  default     = false
}

variable "auth" {
  description = "Ways for clients to prove who they are: `iam` (users, groups and roles of the account that the region has, docs/identity.md), `aws` (users and roles of AWS IAM, `aws_identities`) or `tokens` (the secret `tokens`). Hosts of all regions have the same."
  type        = string
  default     = "iam"

  validation {
    condition     = contains(["iam", "aws", "tokens"], var.auth)
    error_message = "auth is iam, aws or tokens."
  }
}

variable "account_kms_keys" {
  description = "With `iam`: the output `account_kms_key` of the hosts of the other regions. These KMS keys seal the data keys of the account beside the key that the module makes (`[account] kms_key`)."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.account_kms_keys : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", arn))])
    error_message = "A key is named by its ARN, as aliases may name another key later."
  }
}

variable "aws_identities" {
  description = "With `aws`: globs of the names of the roles whose sessions are taken, the time between two readings of AWS IAM, whether SSH public keys are read, and regions whose STS clients may sign for (`[account.aws]`). The account is the one that the host is in. The secret `account_key` needs a value, the same in all regions: 32 random bytes in hexadecimal."
  type = object({
    roles       = optional(list(string), [])
    refresh     = optional(string, "60s")
    ssh_keys    = optional(bool, false)
    sts_regions = optional(list(string), [])
  })
  default = {}
}

variable "aws_cli_image" {
  description = "Image of the AWS command line, of the same architecture, with which the task that founds the account puts the administrator's access key into Secrets Manager."
  type        = string
  default     = "public.ecr.aws/aws-cli/aws-cli:2.22.0"
}

variable "audit" {
  description = "True if the audit trail of requests goes to an event bus of its own, and from there to a log group."
  type        = bool
  default     = true
}

variable "audit_retention_days" {
  description = "Days for which the log group keeps the audit trail."
  type        = number
  default     = 365
}

variable "quotas" {
  description = "Limits of what clients use (`[hosts.REGION.quotas]`): numbers, and sizes such as 10GiB. One that is left out is no limit."
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
  description = "Whether the host takes SSH on port 22. Its tasks then need values of the secrets `ssh_host_ed25519_key` and `ssh_host_ecdsa_key`, which infra/first-start makes, and with `tokens` of `ssh_authorized_keys`."
  type        = bool
  default     = false
}

variable "image" {
  description = "The container image."
  type        = string
}

variable "image_repository_arn" {
  description = "The ECR repository that the image is in, which the task may then pull it from."
  type        = string
  default     = null
}

variable "architecture" {
  description = "Architecture of the image: ARM64 or X86_64."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture is ARM64 or X86_64."
  }
}

variable "network" {
  description = "The output `network` of the module `network`, or the same of a network that exists: public or internal subnets of the load balancer, and subnets of the tasks that reach S3, DynamoDB, EventBridge, Secrets Manager, CloudWatch Logs and the registry."
  type = object({
    cluster_arn           = string
    vpc_id                = string
    subnets               = list(string)
    load_balancer_subnets = list(string)
    assign_public_ip      = optional(bool, false)
  })
}

variable "internal" {
  description = "True if the load balancer has private addresses alone."
  type        = bool
  default     = false
}

variable "client_cidrs" {
  description = "IPv4 networks from which clients may connect."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "egress_ports" {
  description = "TCP ports to which tasks may connect: 443 for AWS and for other hosts; hooks at a URL may need more."
  type        = set(number)
  default     = [443]
}

variable "task" {
  description = "Size of a task: CPU units, MiB of memory, GiB of storage (21 to 200), of which `cache` GiB hold packs; and the connections that it takes."
  type = object({
    cpu         = optional(number, 1024)
    memory      = optional(number, 2048)
    storage     = optional(number, 50)
    cache       = optional(number, 30)
    connections = optional(number, 1024)
  })
  default = {}

  validation {
    condition     = var.task.storage >= 21 && var.task.storage <= 200 && var.task.cache <= var.task.storage - 10
    error_message = "storage is 21 to 200 GiB, and cache leaves 10 GiB of it for pushes that are being received."
  }
}

variable "tasks" {
  description = "Least and largest number of tasks."
  type = object({
    min = optional(number, 2)
    max = optional(number, 6)
  })
  default = {}

  validation {
    condition     = var.tasks.min >= 0 && var.tasks.max >= max(var.tasks.min, 1)
    error_message = "tasks.max is at least tasks.min and 1."
  }
}

variable "scale_at" {
  description = "Values that autoscaling keeps: percent of a task's CPU, and percent of its connections."
  type = object({
    cpu         = optional(number, 60)
    connections = optional(number, 50)
  })
  default = {}
}

variable "create_on_push" {
  description = "True if the first push to a name creates the repository."
  type        = bool
  default     = true
}

variable "secret_files" {
  description = "ARNs of further secrets of Secrets Manager by the name of the file that a task makes of each in /var/lib/gitferry/secrets, mode 0600. `secret_keys` has the KMS keys of these that are not the account's default one."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.secret_files) : can(regex("^[a-z0-9_]+$", name))])
    error_message = "The name of a secret file has lower-case letters, digits and `_` only."
  }
}

variable "secret_keys" {
  description = "ARNs of the KMS keys of `secret_files`."
  type        = list(string)
  default     = []
}

variable "deletion_protection" {
  description = "True if the load balancer refuses to be destroyed, and deleted secrets can be recovered for 30 days."
  type        = bool
  default     = true
}

variable "alarm_topics" {
  description = "ARNs of the SNS topics that alarms notify."
  type        = list(string)
  default     = []
}

variable "thresholds" {
  description = "Limits of the alarms: percent of requests answered with 5xx, percent of a task's memory."
  type = object({
    errors = optional(number, 1)
    memory = optional(number, 85)
  })
  default = {}
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
}

variable "endpoint_url" {
  description = "URL at which the process reaches all services, if not at AWS."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
