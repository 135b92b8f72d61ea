variable "project" {
  description = "The project's id."
  type        = string
}

variable "databases" {
  description = "The databases, each with what gcloud firestore indexes composite list --format=json says of it."
  type        = map(string)
}
