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

variable "restored_databases" {
  description = "Databases restored by gcloud that are taken in; the indexes of each are listed in NAME.indexes."
  type        = set(string)
  default     = []
}

variable "served_database" {
  description = "Which database is worked with; null: the one that is made."
  type        = string
  default     = null
}
