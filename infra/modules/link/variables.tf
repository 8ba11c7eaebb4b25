variable "name" {
  description = "The link's name in gitferry.toml, such as dr."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$", var.name))
    error_message = "A name has letters, digits, `-`, `_` and `.` only, 40 at most."
  }
}

variable "source_region" {
  description = "The output `region` of the module that made the source."
  type = object({
    name            = string
    aws_region      = string
    account         = string
    bucket          = string
    table           = string
    recovery_window = string
    bus             = string
    bus_arn         = string
    reader          = object({ role_arn = string, external_id = string })
    policies        = object({ read = string, write = string, host = string })
  })

  validation {
    condition     = var.source_region.account == var.target_region.account || var.source_region.reader != null
    error_message = "The source is in another account; name the target's in its reader_accounts."
  }
}

variable "target_region" {
  description = "The output `region` of the module that made the target."
  type = object({
    name            = string
    aws_region      = string
    account         = string
    bucket          = string
    table           = string
    recovery_window = string
    bus             = string
    bus_arn         = string
    reader          = object({ role_arn = string, external_id = string })
    policies        = object({ read = string, write = string, host = string })
  })
}

variable "repositories" {
  description = "Globs of the names of the repositories that the link carries."
  type        = list(string)
  default     = ["*"]
}

variable "run" {
  description = "What replicates: `service` (a task of ECS that runs without end), `lambda` (a function, for every batch of events) or `schedule` (a task of ECS from time to time, no events)."
  type        = string
  default     = "service"

  validation {
    condition     = contains(["service", "lambda", "schedule"], var.run)
    error_message = "run is service, lambda or schedule."
  }
}

variable "image" {
  description = "The container image, for ECS, or for a function that is not a zip. A function's has to be in ECR."
  type        = string
  default     = null

  validation {
    condition     = var.image != null || (var.run == "lambda" && var.function_zip != null)
    error_message = "An image is needed; only a function can do with function_zip."
  }
}

variable "image_repository_arn" {
  description = "The ECR repository that the image is in, which the task may then pull it from."
  type        = string
  default     = null
}

variable "architecture" {
  description = "Of the image or zip: ARM64 or X86_64."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "architecture is ARM64 or X86_64."
  }
}

variable "jobs" {
  description = "Repositories to work on at a time."
  type        = number
  default     = 8
}

variable "network" {
  description = "Where tasks of ECS run."
  type = object({
    cluster_arn      = string
    subnets          = list(string)
    security_groups  = list(string)
    assign_public_ip = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.network != null || var.run == "lambda"
    error_message = "A service or schedule needs a network."
  }
}

variable "task" {
  description = "The size of a task of ECS, and how many run as a service."
  type = object({
    cpu    = optional(number, 512)
    memory = optional(number, 1024)
    count  = optional(number, 1)
  })
  default = {}
}

variable "function_zip" {
  description = "A zip file with the program as `bootstrap`."
  type        = string
  default     = null
}

variable "function" {
  description = "The size of the function, its longest run in seconds, and how many run at a time."
  type = object({
    memory      = optional(number, 512)
    timeout     = optional(number, 300)
    concurrency = optional(number, 10)
  })
  default = {}
}

variable "backup_every_hours" {
  description = "How often `gitferry backup` replicates and verifies everything: with `schedule` the only thing that runs, with `service` beside it. Not with `lambda`."
  type        = number
  default     = 24

  validation {
    # An alarm watches no more than two days for what does not happen.
    condition     = contains(range(1, 25), var.backup_every_hours)
    error_message = "backup_every_hours is a whole number from 1 to 24."
  }
}

variable "alarm_topics" {
  description = "ARNs of the SNS topics that alarms tell."
  type        = list(string)
  default     = []
}

variable "thresholds" {
  description = "When alarms go off: seconds that a change is late, that a message waits, that a repository stays unverified."
  type = object({
    lag         = optional(number, 300)
    message_age = optional(number, 600)
    unverified  = optional(number, 691200)
  })
  default = {}
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
}

variable "endpoint_url" {
  description = "Where the process reaches all services, if not at AWS."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}
