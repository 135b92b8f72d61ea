output "name" {
  description = "The database's id."
  value       = google_firestore_database.this.name
}

output "indexes" {
  description = "The composite indexes: collection, then fields with their order."
  value       = keys(google_firestore_index.composite)
}

output "expiring" {
  description = "The collections whose documents expire."
  value       = sort([for field in local.wanted.fields : field.collection if field.ttl])
}
