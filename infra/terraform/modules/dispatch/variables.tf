variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "Where the queue and the scheduler's job are."
  type        = string
}

variable "name" {
  description = "The queue's name."
  type        = string
}

variable "enqueuers" {
  description = "Who may enqueue: members by function."
  type        = map(string)
}

variable "invoker" {
  description = "The service account that the scheduler calls as."
  type        = string
}

variable "sweeper_url" {
  description = "The sweeper's address, which is its token's audience, too."
  type        = string
}

variable "sweep_timeout" {
  description = "Seconds a sweep may take."
  type        = number
}

variable "max_concurrent_dispatches" {
  description = "Most workers' calls at the same time."
  type        = number
}

variable "max_dispatches_per_second" {
  description = "Most workers' calls begun in a second."
  type        = number
}
