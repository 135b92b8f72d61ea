terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.0"
    }
  }
}

# The budget is billed to a project, too, where it is you who applies and no service account.
provider "google" {
  project               = var.project
  billing_project       = var.project
  user_project_override = true
}
