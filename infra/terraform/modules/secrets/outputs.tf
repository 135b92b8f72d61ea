output "ids" {
  description = "The secrets' ids by variable, once their readers may read them."
  value       = { for variable, secret in google_secret_manager_secret.this : variable => secret.secret_id }
  depends_on  = [google_secret_manager_secret_iam_member.reader]
}
