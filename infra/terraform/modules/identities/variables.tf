variable "project" {
  description = "The project's id."
  type        = string
}

variable "prefix" {
  description = "What the accounts' names begin with."
  type        = string
}

variable "database" {
  description = "The Firestore database's id."
  type        = string
}

variable "functions" {
  description = "The functions, as functions.json describes them."
  type        = map(object({ store = bool, dispatch = bool }))
}
