variable "project" {
  description = "The project's id."
  type        = string
}

variable "prefix" {
  description = "What the resources' names begin with."
  type        = string
}

variable "domain" {
  description = "The domain that is served; its A record is the address."
  type        = string
}

variable "regions" {
  description = "Where the functions are."
  type        = list(string)
}

variable "functions" {
  description = "The functions that users call, with their paths."
  type        = map(object({ paths = list(string) }))
}

variable "services" {
  description = "The Cloud Run services by region and function."
  type        = map(string)
}

variable "requests_per_minute" {
  description = "Most requests of one address in a minute; more are answered 429."
  type        = number
}

variable "log_sample_rate" {
  description = "The part of the requests that the load balancer logs; the functions log all of them."
  type        = number
}

variable "labels" {
  description = "Labels of the forwarding rules."
  type        = map(string)
}
