variable "project" {
  description = "The project's id."
  type        = string
}

variable "prefix" {
  description = "What the names of account and services begin with."
  type        = string
}

variable "region" {
  description = "Where the images lie, and are built."
  type        = string
}

variable "repository" {
  description = "The repository of the images."
  type        = string
}

variable "regions" {
  description = "The regions that are released to."
  type        = list(string)
}

variable "functions" {
  description = "The functions that are released."
  type        = list(string)
}

variable "accounts" {
  description = "The service account of each function."
  type        = map(string)
}
