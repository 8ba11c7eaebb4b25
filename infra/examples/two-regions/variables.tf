variable "prefix" {
  description = "What the names of buckets, tables and buses start with; buckets share one name space with all of AWS."
  type        = string
}

variable "link" {
  description = "The link's name."
  type        = string
  default     = "dr"
}

variable "run" {
  description = "What replicates: `service`, `lambda` or `schedule`."
  type        = string
  default     = "service"
}

variable "image" {
  description = "The container image."
  type        = string
  default     = null
}

variable "function_zip" {
  description = "A zip file with the program as `bootstrap`, for `lambda`."
  type        = string
  default     = null
}

variable "network" {
  description = "Where tasks of ECS run."
  type = object({
    cluster_arn     = string
    subnets         = list(string)
    security_groups = list(string)
  })
  default = null
}

variable "tasks" {
  description = "How many tasks run as a service."
  type        = number
  default     = 1
}

variable "alarm_topics" {
  description = "ARNs of the SNS topics that alarms tell."
  type        = list(string)
  default     = []
}

variable "deletion_protection" {
  description = "Whether tables and buckets that are not empty refuse to be destroyed."
  type        = bool
  default     = true
}

variable "endpoint_url" {
  description = "Where all services are, if not at AWS."
  type        = string
  default     = null
}
