variable "project" {
  description = "The project's id."
  type        = string
}

variable "domain" {
  description = "The domain that is served."
  type        = string
}

variable "image_tag" {
  description = "Tag of the image."
  type        = string
}

variable "invokers" {
  description = "Who may call it."
  type        = list(string)
}

variable "alert_emails" {
  description = "Who is told of alerts."
  type        = list(string)
}

variable "billing_account" {
  description = "Billing account of the budget."
  type        = string
}

variable "monthly_budget" {
  description = "What a month may cost before somebody is told."
  type        = number
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
