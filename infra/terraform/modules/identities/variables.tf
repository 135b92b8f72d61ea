variable "project" {
  description = "The project's id."
  type        = string
}

variable "prefix" {
  description = "What the accounts' names begin with."
  type        = string
}

variable "databases" {
  description = "The Firestore databases' ids."
  type        = list(string)
}

variable "functions" {
  description = "The functions, as functions.json describes them."
  type        = map(object({ store = bool, dispatch = bool }))
}
