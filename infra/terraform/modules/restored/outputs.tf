output "databases" {
  description = "The databases, by their ids."
  value       = { for database in keys(var.databases) : database => "projects/${var.project}/databases/${database}" }
}

output "indexes" {
  description = "Their indexes that are needed, by what Firestore calls them; others are left alone."
  value       = { for id, each in local.listed : id => each if contains(local.wanted, each.index) }
}
