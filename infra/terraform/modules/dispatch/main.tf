# How runs reach the worker, and who calls the sweeper. A task is a hint, never the truth: the sweeper finds what a queue
# has lost.
resource "google_cloud_tasks_queue" "runs" {
  project  = var.project
  location = var.region
  name     = var.name

  rate_limits {
    max_concurrent_dispatches = var.max_concurrent_dispatches
    max_dispatches_per_second = var.max_dispatches_per_second
  }

  retry_config {
    max_attempts       = 20
    max_retry_duration = "3600s"
    min_backoff        = "1s"
    max_backoff        = "60s"
  }
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = var.enqueuers

  project  = var.project
  location = var.region
  name     = google_cloud_tasks_queue.runs.name
  role     = "roles/cloudtasks.enqueuer"
  member   = each.value
}

resource "google_cloud_scheduler_job" "sweep" {
  project          = var.project
  region           = var.region
  name             = "${var.name}-sweep"
  description      = "Has GoAgents look for runs that were left behind"
  schedule         = "* * * * *"
  time_zone        = "Etc/UTC"
  attempt_deadline = "${var.sweep_timeout}s"

  # The next minute is the retry.
  retry_config {
    retry_count = 0
  }

  http_target {
    uri         = "${var.sweeper_url}/sweep"
    http_method = "POST"

    oidc_token {
      service_account_email = var.invoker
      audience              = var.sweeper_url
    }
  }
}
