variable "project" {
  description = "The project's id."
  type        = string
}

variable "project_number" {
  description = "The project's number."
  type        = string
}

variable "billing_account" {
  description = "The billing account's id."
  type        = string
}

variable "amount" {
  description = "What a month may cost."
  type        = number
}

variable "currency" {
  description = "The billing account's currency."
  type        = string
}

variable "channels" {
  description = "The notification channels' names."
  type        = list(string)
}
