output "member" {
  description = "The pipeline's service account, as a member of IAM."
  value       = google_service_account.release.member
}

output "commands" {
  description = "What releases the repository one is in, to one region after the other."
  value       = local.commands
}
