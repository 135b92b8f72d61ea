# Where the image lies. Kept are the newest, whatever is younger than three months, and the one that new services are made
# of, so that a rollback finds its image; the rest goes.
resource "google_artifact_registry_repository" "images" {
  # checkov:skip=CKV_GCP_84:Google's key encrypts it, and the image holds no secret
  project       = var.project
  location      = var.region
  repository_id = var.name
  description   = "The image of GoAgents"
  format        = "DOCKER"
  labels        = var.labels

  # Google deletes no image that has a tag where tags are immutable, and each image that is pushed has one. A release has a
  # tag of its own, the build's id, and what Cloud Run serves is a digest: a tag that is moved changes neither.
  docker_config {
    immutable_tags = false
  }

  cleanup_policies {
    id     = "keep-recent"
    action = "KEEP"

    most_recent_versions {
      keep_count = 20
    }
  }

  cleanup_policies {
    id     = "keep-first"
    action = "KEEP"

    condition {
      tag_state    = "TAGGED"
      tag_prefixes = [var.kept_tag]
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"

    condition {
      tag_state  = "ANY"
      older_than = "7776000s"
    }
  }
}

