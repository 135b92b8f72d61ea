# One function that serves everything, in one region, without load balancer: for trying things out. Costs nothing while
# nobody calls it, but for the sweeper's call each minute.
module "goagents" {
  source = "../.."

  project      = var.project
  regions      = [var.region]
  gateway_only = true
  image_tag    = var.image_tag
  invokers     = var.invokers
  secrets      = { ANTHROPIC_API_KEY = "anthropic-api-key" }

  max_instances          = 5
  log_level              = "debug"
  deletion_protection    = false
  point_in_time_recovery = false
  daily_backups_kept     = 0
  weekly_backups_kept    = 0
  labels                 = { environment = "dev" }

  restored_databases = { for name in var.restored_databases : name => file("${path.module}/${name}.indexes") }
  served_database    = var.served_database
}
