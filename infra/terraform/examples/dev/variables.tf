variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
  default     = "europe-west1"
}

variable "image_tag" {
  description = "Tag of the image."
  type        = string
}

variable "invokers" {
  description = "Who may call it."
  type        = list(string)
}
