# A service account for each function, with what that function needs and no more, and one that calls worker and sweeper.
resource "google_service_account" "function" {
  for_each = var.functions

  project      = var.project
  account_id   = "${var.prefix}-${each.key}"
  display_name = "GoAgents: the function ${each.key}"
}

resource "google_service_account" "invoker" {
  project      = var.project
  account_id   = "${var.prefix}-invoker"
  display_name = "GoAgents: calls worker and sweeper"
}

# These databases alone, not every one of the project. A grant for each: one that is taken in changes none that serves.
resource "google_project_iam_member" "store" {
  for_each = merge([
    for database in var.databases : {
      for name, function in var.functions : "${name}/${database}" => { function = name, database = database } if function.store
    }
  ]...)

  project = var.project
  role    = "roles/datastore.user"
  member  = google_service_account.function[each.value.function].member

  condition {
    title       = "goagents-database"
    description = "A database of GoAgents"
    expression  = "resource.name == \"projects/${var.project}/databases/${each.value.database}\""
  }
}

# Who enqueues a task has it sent with the invoker's token.
resource "google_service_account_iam_member" "acts_as_invoker" {
  for_each = { for name, function in var.functions : name => function if function.dispatch }

  service_account_id = google_service_account.invoker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.function[each.key].member
}
