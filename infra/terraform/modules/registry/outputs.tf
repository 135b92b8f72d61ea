output "address" {
  description = "What an image's name begins with."
  value       = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${google_artifact_registry_repository.images.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "name" {
  description = "The repository's name."
  value       = google_artifact_registry_repository.images.repository_id
}
