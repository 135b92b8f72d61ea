variable "project" {
  description = "The project's id."
  type        = string
}

variable "prefix" {
  description = "What the services' names begin with."
  type        = string
}

variable "regions" {
  description = "Where each function is deployed."
  type        = list(string)
}

variable "functions" {
  description = "The functions, as functions.json describes them."
  type = map(object({
    cpu         = string
    memory      = string
    concurrency = number
    timeout     = number
    called_by   = string
    paths       = list(string)
    models      = bool
  }))
}

variable "image" {
  description = "The image of a service that is made; later ones are deployed by the pipeline."
  type        = string
}

variable "accounts" {
  description = "The service account of each function."
  type        = map(string)
}

variable "environment" {
  description = "Variables of every function."
  type        = map(string)
}

variable "own_environment" {
  description = "Further variables of every function, which are the user's own."
  type        = map(string)
}

variable "secrets" {
  description = "Secrets by variable, for the functions that call models or tools."
  type        = map(string)
}

variable "request_timeout" {
  description = "Seconds after which a run is handed on, where the function may take longer."
  type        = number
}

variable "invoker" {
  description = "The service account that calls worker and sweeper."
  type        = string
}

variable "releaser" {
  description = "The member that tries each function once it is deployed."
  type        = string
}

variable "internal" {
  description = "The functions that it calls."
  type        = list(string)
}

variable "invokers" {
  description = "Members that may call what users call."
  type        = list(string)
}

variable "watched" {
  description = "The function that the uptime check asks."
  type        = string
}

variable "monitoring_agent" {
  description = "The member that the uptime check asks as; null: it asks without a token."
  type        = string
}

variable "audiences" {
  description = "Audiences of identity tokens that users' functions take, beside their own addresses."
  type        = list(string)
}

variable "restrict_ingress" {
  description = "Whether functions are reached through the load balancer, the queue and the scheduler only."
  type        = bool
}

variable "min_instances" {
  description = "Instances that are kept warm, by function."
  type        = map(number)
}

variable "max_instances" {
  description = "Most instances of a function in a region."
  type        = number
}

variable "deletion_protection" {
  description = "Refuse to delete the services."
  type        = bool
}

variable "labels" {
  description = "Labels of the services."
  type        = map(string)
}
