output "queue" {
  description = "The queue's full name."
  value       = google_cloud_tasks_queue.runs.id
}
