output "name" {
  description = "The database's id."
  value       = google_firestore_database.this.name
}

output "uid" {
  description = "What no other database is called, not even one of the same name."
  value       = google_firestore_database.this.uid
}

output "indexes" {
  description = "The composite indexes: collection, then fields with their order."
  value       = keys(google_firestore_index.composite)
}

output "expiring" {
  description = "The collections whose documents expire."
  value       = sort([for field in local.wanted.fields : field.collection if field.ttl])
}
