variable "project" {
  description = "The project's id."
  type        = string
}

variable "prefix" {
  description = "What the services' names begin with."
  type        = string
}

variable "host" {
  description = "The host that the uptime check asks."
  type        = string
}

variable "with_token" {
  description = "Whether it asks with an identity token of Monitoring's service agent."
  type        = bool
}

variable "watched" {
  description = "The function that answers it."
  type        = string
}

variable "quick" {
  description = "The functions that call no model."
  type        = list(string)
}

variable "queue" {
  description = "The queue's name."
  type        = string
}

variable "longest_queue" {
  description = "Tasks in the queue above which, after ten minutes, somebody is told."
  type        = number
}

variable "scheduler_job" {
  description = "The name of the scheduler's job that sweeps."
  type        = string
}

variable "emails" {
  description = "Who is told."
  type        = list(string)
}

variable "labels" {
  description = "Labels of channels, checks and alerts."
  type        = map(string)
}
