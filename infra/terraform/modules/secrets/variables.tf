variable "project" {
  description = "The project's id."
  type        = string
}

variable "secrets" {
  description = "Secrets by the variable they are bound to."
  type        = map(string)
}

variable "readers" {
  description = "Who reads them: members by function."
  type        = map(string)
}

variable "labels" {
  description = "Labels of the secrets."
  type        = map(string)
}
