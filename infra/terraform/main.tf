# GoAgents on Google Cloud. What is deployed is described once, in functions.json; the command line and the pipeline
# read the same file.
locals {
  catalogue = jsondecode(file("${path.module}/../../shared/goagents/deploy/functions.json")).functions
  functions = { for name, function in local.catalogue : name => function if function.standard != var.gateway_only }
  users     = { for name, function in local.functions : name => function if function.called_by == "users" }

  # Who answers a path: the function that names it, or the gateway.
  serving = {
    for path in ["/worker", "/sweep", "/ready"] :
    path => one([for name, function in local.functions : name if length(setintersection(function.paths, [path, "/*"])) > 0])
  }

  # The one Terraform makes, and those that gcloud restored. Keyed by their names, so none ever takes another's place.
  databases = setunion([var.database], keys(var.restored_databases))
  served    = coalesce(var.served_database, var.database)
  store     = "firestore://${var.project}/${module.firestore[local.served].name}"

  # Variables that the deployment sets, and those that Cloud Run does.
  reserved = "^(GOAGENTS_(CONFIG|STORE|QUEUE|WORKER_URL|INVOKER|LOG_LEVEL|TIMEOUT)|FUNCTION_.*|GOOGLE_CLOUD_PROJECT|PORT|K_.*)$"

  home   = var.regions[0]
  labels = merge({ app = "goagents" }, var.labels)
  image  = "${module.registry.address}/goagents:${var.image_tag}"

  # Cloud Run's address of a service is known before there is one, so workers can be told of themselves.
  urls = { for name in keys(local.functions) : name => "https://${var.prefix}-${name}-${data.google_project.this.number}.${local.home}.run.app" }
  host = var.domain != null ? var.domain : trimprefix(local.urls[local.serving["/ready"]], "https://")

  services = [
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "cloudtasks.googleapis.com",
    "compute.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "ondemandscanning.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ]
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "this" {
  for_each = toset(local.services)

  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

module "registry" {
  source = "./modules/registry"

  project  = var.project
  region   = local.home
  name     = var.prefix
  kept_tag = var.image_tag
  labels   = local.labels

  depends_on = [google_project_service.this]
}

module "firestore" {
  source   = "./modules/firestore"
  for_each = local.databases

  project                = var.project
  database               = each.value
  location               = coalesce(var.database_location, local.home)
  delete_data            = var.delete_data
  point_in_time_recovery = var.point_in_time_recovery
  daily_backups_kept     = var.daily_backups_kept
  weekly_backups_kept    = var.weekly_backups_kept

  depends_on = [google_project_service.this]
}

module "restored" {
  source = "./modules/restored"

  project   = var.project
  databases = var.restored_databases
}

module "identities" {
  source = "./modules/identities"

  project   = var.project
  prefix    = var.prefix
  databases = local.databases
  functions = local.functions

  depends_on = [google_project_service.this]
}

module "secrets" {
  source = "./modules/secrets"

  project = var.project
  secrets = var.secrets
  readers = { for name, function in local.functions : name => module.identities.members[name] if function.models }
  labels  = local.labels

  depends_on = [google_project_service.this]
}

module "dispatch" {
  source = "./modules/dispatch"

  project                   = var.project
  region                    = local.home
  name                      = var.prefix
  enqueuers                 = { for name, function in local.functions : name => module.identities.members[name] if function.dispatch }
  invoker                   = module.identities.invoker
  sweeper_url               = local.urls[local.serving["/sweep"]]
  sweep_timeout             = local.catalogue["sweeper"].timeout
  max_concurrent_dispatches = var.max_concurrent_dispatches
  max_dispatches_per_second = var.max_dispatches_per_second

  depends_on = [google_project_service.this]
}

module "functions" {
  source = "./modules/functions"

  project             = var.project
  prefix              = var.prefix
  regions             = var.regions
  functions           = local.functions
  image               = local.image
  accounts            = module.identities.emails
  secrets             = module.secrets.ids
  request_timeout     = 300
  invoker             = module.identities.invoker
  releaser            = module.release.member
  internal            = distinct([local.serving["/worker"], local.serving["/sweep"]])
  invokers            = concat(var.invokers, var.allow_unauthenticated ? ["allUsers"] : [])
  watched             = local.serving["/ready"]
  monitoring_agent    = var.allow_unauthenticated ? null : "serviceAccount:service-${data.google_project.this.number}@gcp-sa-monitoring-notification.iam.gserviceaccount.com"
  audiences           = var.domain == null ? [] : ["https://${var.domain}"]
  restrict_ingress    = var.restrict_ingress
  min_instances       = var.min_instances
  max_instances       = var.max_instances
  deletion_protection = var.deletion_protection
  labels              = local.labels
  own_environment     = var.environment

  environment = {
    GOAGENTS_CONFIG      = var.config
    GOAGENTS_STORE       = local.store
    GOAGENTS_QUEUE       = module.dispatch.queue
    GOAGENTS_WORKER_URL  = "${local.urls[local.serving["/worker"]]}/worker"
    GOAGENTS_INVOKER     = module.identities.invoker
    GOAGENTS_LOG_LEVEL   = var.log_level
    GOOGLE_CLOUD_PROJECT = var.project
  }
}

module "release" {
  source = "./modules/release"

  project    = var.project
  prefix     = var.prefix
  region     = local.home
  repository = module.registry.name
  regions    = var.regions
  functions  = keys(local.functions)
  accounts   = module.identities.emails

  depends_on = [google_project_service.this]
}

module "load_balancer" {
  source = "./modules/load_balancer"
  count  = var.domain == null ? 0 : 1

  project             = var.project
  prefix              = var.prefix
  domain              = var.domain
  regions             = var.regions
  functions           = local.users
  services            = module.functions.services
  requests_per_minute = var.requests_per_minute
  log_sample_rate     = 0.1
  labels              = local.labels
}

module "monitoring" {
  source = "./modules/monitoring"

  project       = var.project
  prefix        = var.prefix
  host          = local.host
  with_token    = !var.allow_unauthenticated
  watched       = local.serving["/ready"]
  quick         = [for name, function in local.users : name if !function.models]
  queue         = var.prefix
  longest_queue = var.longest_queue
  scheduler_job = "${var.prefix}-sweep"
  emails        = var.alert_emails
  labels        = local.labels

  depends_on = [google_project_service.this]
}

module "budget" {
  source = "./modules/budget"
  count  = var.billing_account == null ? 0 : 1

  project         = var.project
  project_number  = data.google_project.this.number
  billing_account = var.billing_account
  amount          = var.monthly_budget
  currency        = var.budget_currency
  channels        = module.monitoring.channels

  depends_on = [google_project_service.this]
}
