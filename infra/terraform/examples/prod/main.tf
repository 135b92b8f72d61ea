# One service for each function in two regions, behind a load balancer, with alerts and a budget.
module "goagents" {
  source = "../.."

  project           = var.project
  regions           = ["europe-west1", "europe-west4"]
  domain            = var.domain
  image_tag         = var.image_tag
  invokers          = var.invokers
  database_location = "eur3"

  # People wait for these two: no cold start for the first one of the day. More than the 10 instances that a new project's
  # quota has room for: ask for more of it first, then max_instances.
  min_instances = { chat = 1, stream = 1 }

  alert_emails    = var.alert_emails
  billing_account = var.billing_account
  monthly_budget  = var.monthly_budget
  labels          = { environment = "prod" }

  restored_databases = { for name in var.restored_databases : name => file("${path.module}/${name}.indexes") }
  served_database    = var.served_database
}
