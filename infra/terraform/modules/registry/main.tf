# Where the image lies. What is no longer tagged goes after two weeks, so that a rollback finds its image.
resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84:Google's key encrypts it, and the image holds no secret
  project       = var.project
  location      = var.region
  repository_id = var.name
  description   = "The image of GoAgents"
  format        = "DOCKER"
  labels        = var.labels

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"

    most_recent_versions {
      keep_count = 20
    }
  }

  cleanup_policies {
    id     = "delete-untagged"
    action = "DELETE"

    condition {
      tag_state  = "UNTAGGED"
      older_than = "1209600s"
    }
  }
}

