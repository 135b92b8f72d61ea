output "emails" {
  description = "The functions' service accounts."
  value       = { for name, account in google_service_account.function : name => account.email }
}

output "members" {
  description = "The same, as members of IAM."
  value       = { for name, account in google_service_account.function : name => account.member }
}

output "invoker" {
  description = "The service account that calls worker and sweeper."
  value       = google_service_account.invoker.email
}

output "databases" {
  description = "Which function may use which database."
  value       = keys(google_project_iam_member.store)
}
