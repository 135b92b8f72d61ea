# The places of the secrets. Their values are added by `gcloud secrets versions add`: Terraform's state never holds one.
resource "google_secret_manager_secret" "this" {
  for_each = var.secrets

  project   = var.project
  secret_id = each.value
  labels    = var.labels

  replication {
    auto {}
  }
}

locals {
  # Keyed by what is known before anything is made.
  access = {
    for pair in setproduct(keys(var.secrets), keys(var.readers)) :
    "${pair[0]}/${pair[1]}" => { variable = pair[0], reader = pair[1] }
  }
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.access

  project   = var.project
  secret_id = google_secret_manager_secret.this[each.value.variable].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = var.readers[each.value.reader]
}
