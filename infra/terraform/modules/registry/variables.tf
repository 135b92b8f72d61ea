variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "Where the images lie."
  type        = string
}

variable "name" {
  description = "The repository's name."
  type        = string
}

variable "labels" {
  description = "Labels of the repository."
  type        = map(string)
}

variable "kept_tag" {
  description = "Tag of the image that is kept, however old."
  type        = string
}
