# What the store's queries need. indexes.json is made by `python -m goagents.deploy.indexes`; a test holds it equal to
# the code.
locals {
  wanted = jsondecode(file("${path.module}/indexes.json"))
  indexes = {
    for index in local.wanted.indexes :
    join("-", concat([index.collection], [for field in index.fields : "${field.field}.${lower(field.order)}"])) => index
  }
  fields = { for field in local.wanted.fields : "${field.collection}.${field.field}" => field }
}

# Without delete_data nothing of Terraform's deletes documents: it forgets a database that it no longer has, and Firestore
# refuses to delete it.
resource "google_firestore_database" "this" {
  project                           = var.project
  name                              = var.database
  location_id                       = var.location
  type                              = "FIRESTORE_NATIVE"
  delete_protection_state           = var.delete_data ? "DELETE_PROTECTION_DISABLED" : "DELETE_PROTECTION_ENABLED"
  deletion_policy                   = var.delete_data ? "DELETE" : "ABANDON"
  point_in_time_recovery_enablement = var.point_in_time_recovery ? "POINT_IN_TIME_RECOVERY_ENABLED" : "POINT_IN_TIME_RECOVERY_DISABLED"
}

resource "google_firestore_index" "composite" {
  for_each = local.indexes

  project     = var.project
  database    = google_firestore_database.this.name
  collection  = each.value.collection
  query_scope = "COLLECTION"

  dynamic "fields" {
    for_each = each.value.fields

    content {
      field_path = fields.value.field
      order      = fields.value.order
    }
  }
}

# Nothing is found by these: an index on a value that only grows limits the rate of writes, and a large one is refused.
resource "google_firestore_field" "exempt" {
  for_each = local.fields

  project    = var.project
  database   = google_firestore_database.this.name
  collection = each.value.collection
  field      = each.value.field

  index_config {}

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [1] : []

    content {}
  }
}

resource "google_firestore_backup_schedule" "daily" {
  count = var.daily_backups_kept > 0 ? 1 : 0

  project   = var.project
  database  = google_firestore_database.this.name
  retention = "${var.daily_backups_kept * 86400}s"

  daily_recurrence {}
}

resource "google_firestore_backup_schedule" "weekly" {
  count = var.weekly_backups_kept > 0 ? 1 : 0

  project   = var.project
  database  = google_firestore_database.this.name
  retention = "${var.weekly_backups_kept * 7 * 86400}s"

  weekly_recurrence {
    day = "SUNDAY"
  }
}
