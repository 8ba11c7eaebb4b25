# gitferry.toml, from what the modules `region`, `link` and `host` made. Needs no provider.

terraform {
  required_version = ">= 1.9"
}

variable "regions" {
  description = "Regions by name. `bus` is left out where the process announces nothing."
  type = map(object({
    aws_region      = string
    bucket          = string
    table           = string
    recovery_window = optional(string)
    bus             = optional(string)
    cache           = optional(string)
    role_arn        = optional(string)
    external_id     = optional(string)
    endpoint_url    = optional(string)
  }))
}

variable "links" {
  description = "Links by name."
  type = map(object({
    source       = string
    target       = string
    repositories = optional(list(string), ["*"])
    queue        = optional(string)
    dead_letters = optional(string)
    endpoint_url = optional(string)
    aws_region   = optional(string)
  }))
  default = {}
}

variable "hosts" {
  description = "Hosts by the region that they serve; a host of another region is named for its URL. `auth` is `iam`, `aws` or `tokens`; `tokens`, `tls` and the keys of `ssh` are paths; `audit` is the name of an event bus."
  type = map(object({
    listen         = optional(string, "0.0.0.0:8411")
    url            = string
    auth           = optional(string, "tokens")
    tokens         = optional(string, "tokens")
    create_on_push = optional(bool, true)
    on_push        = optional(string, "forward")
    tls            = optional(object({ cert = string, key = string }))
    ssh            = optional(object({ listen = string, host_keys = string, authorized_keys = optional(string) }))
    limits         = optional(object({ connections = number, grace = string }))
    audit          = optional(string)
    quotas = optional(object({
      repositories        = optional(number)
      repository_size     = optional(string)
      size                = optional(string)
      repository_lfs_size = optional(string)
      lfs_size            = optional(string)
      requests_per_minute = optional(number)
    }))
  }))
  default = {}
}

variable "account" {
  description = "The account that hosts with `auth` `iam` or `aws` have: ARNs of the KMS keys that seal its data keys, the path of a key file, and settings of `[account.aws]`."
  type = object({
    kms_keys     = optional(list(string))
    key          = optional(string)
    endpoint_url = optional(string)
    aws = optional(object({
      id          = string
      roles       = list(string)
      refresh     = string
      ssh_keys    = bool
      sts_regions = list(string)
    }))
  })
  default = null
}

output "toml" {
  description = "The text of gitferry.toml, for GITFERRY_CONFIG_TOML or a file."
  value = templatefile("${path.module}/gitferry.toml.tftpl", {
    regions = var.regions
    links   = var.links
    hosts   = var.hosts
    account = var.account
  })
}
