variable "name" {
  description = "The region's name in gitferry.toml, such as us-east-1."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]{1,64}$", var.name))
    error_message = "A name has letters, digits, `-`, `_` and `.` only."
  }
}

variable "bucket" {
  description = "The name of the bucket to make."
  type        = string
}

variable "table" {
  description = "The name of the table to make."
  type        = string
}

variable "bus" {
  description = "The name of the event bus to make, on which committed changes are announced; `default` uses the account's own, where CodeCommit's events arrive."
  type        = string
}

variable "recovery_days" {
  description = "For how many days the object store keeps what the table no longer names: a table that is restored to a moment within them finds its packs. DynamoDB's point-in-time recovery goes back 35 days."
  type        = number
  default     = 7

  validation {
    condition     = var.recovery_days >= 1 && var.recovery_days <= 400 && floor(var.recovery_days) == var.recovery_days
    error_message = "recovery_days is a whole number between 1 and 400."
  }
}

variable "noncurrent_days" {
  description = "For how many days the bucket keeps what was deleted."
  type        = number
  default     = 30
}

variable "repository_kms_keys" {
  description = "ARNs of the KMS keys of this AWS region that repositories have of their own (`gitferry repo set-kms-key`), beside the key of the bucket. A key of another account also has to allow the roles in its own policy."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.repository_kms_keys : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]{12}:key/", arn))])
    error_message = "A key is named by its ARN, as aliases may name another key later."
  }
}

variable "deletion_protection" {
  description = "Whether the table and a bucket with objects in it refuse to be destroyed."
  type        = bool
  default     = true
}

variable "reader_accounts" {
  description = "Accounts whose workers may read this region, by the role `reader`."
  type        = list(string)
  default     = []
}

variable "reader_external_id" {
  description = "What these accounts have to name when they assume the role."
  type        = string
  default     = null

  validation {
    condition     = var.reader_external_id != null || length(var.reader_accounts) == 0
    error_message = "reader_accounts need a reader_external_id, so that no deputy of another account can read."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
