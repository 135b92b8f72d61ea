# The state is shared, versioned and locked in a bucket: terraform init -backend-config="bucket=my-project-terraform"
terraform {
  backend "gcs" {
    prefix = "goagents/prod"
  }
}
