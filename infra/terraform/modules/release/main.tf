# What the pipeline (cloudbuild.yaml) runs as. It pushes an image, deploys it to the services that are there, and asks
# them as themselves; that it may call them is granted with them.
resource "google_service_account" "release" {
  project      = var.project
  account_id   = "${var.prefix}-release"
  display_name = "GoAgents: releases images"
}

resource "google_project_iam_member" "release" {
  for_each = toset(["roles/browser", "roles/logging.logWriter", "roles/ondemandscanning.admin", "roles/run.developer"])

  project = var.project
  role    = each.value
  member  = google_service_account.release.member
}

# Where `gcloud builds submit` puts the source, and no other bucket: one may hold Terraform's state.
resource "google_project_iam_member" "source" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.release.member

  condition {
    title       = "goagents-source"
    description = "The source of builds"
    expression  = "resource.name.startsWith(\"projects/_/buckets/${var.project}_cloudbuild\")"
  }
}

resource "google_artifact_registry_repository_iam_member" "pushes" {
  project    = var.project
  location   = var.region
  repository = var.repository
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.release.member
}

# A revision runs as its function's account.
resource "google_service_account_iam_member" "acts_as_function" {
  for_each = var.accounts

  service_account_id = "projects/${var.project}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.release.member
}

# The smoke test's identity token; Cloud Build gives its steps none.
resource "google_service_account_iam_member" "makes_own_tokens" {
  service_account_id = google_service_account.release.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = google_service_account.release.member
}

locals {
  # Known before there is one, so that what to type is, too.
  account = "${var.prefix}-release@${var.project}.iam.gserviceaccount.com"

  # Beside the region, what cloudbuild.yaml assumes by itself holds for the first one alone: the image lies there.
  substitutions = {
    for region in var.regions : region => merge(
      {
        _REGION        = region
        _PREFIX        = var.prefix
        _REPOSITORY    = var.repository
        _FUNCTIONS     = join(",", var.functions)
        _SMOKE_ACCOUNT = local.account
      },
      region == var.region ? {} : { _IMAGE = "${var.region}-docker.pkg.dev/$${PROJECT_ID}/$${_REPOSITORY}/goagents:$${BUILD_ID}" },
    )
  }

  # Built is where the image lies, whatever it is released to: Google lets a new project build in few regions. A list of
  # functions holds commas, so substitutions are separated by semicolons.
  commands = [
    for region in var.regions : join(" ", [
      "gcloud builds submit",
      "--project=${var.project}",
      "--region=${var.region}",
      "--config=cloudbuild.yaml",
      "--ignore-file=.cloudbuildignore",
      "--service-account=projects/${var.project}/serviceAccounts/${local.account}",
      "--substitutions='^;^${join(";", [for name, value in local.substitutions[region] : "${name}=${value}"])}'",
      ".",
    ])
  ]
}
