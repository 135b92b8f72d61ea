variable "project" {
  description = "The project's id."
  type        = string
}

variable "database" {
  description = "The database's id."
  type        = string
}

variable "location" {
  description = "Where the database lies: a region, or a multi-region such as eur3."
  type        = string
}

variable "delete_data" {
  description = "Let the database be deleted, with all documents."
  type        = bool
}

variable "point_in_time_recovery" {
  description = "Keep every version of the last seven days."
  type        = bool
}

variable "daily_backups_kept" {
  description = "Days a daily backup is kept; 0: none is made."
  type        = number
}

variable "weekly_backups_kept" {
  description = "Weeks a weekly backup is kept; 0: none is made."
  type        = number
}
