# One Cloud Run service for each function and region, all of one image: FUNCTION_TARGET says which function it serves.
locals {
  services = merge([
    for region in var.regions : {
      for name, function in var.functions : "${region}/${name}" => merge(function, { name = name, region = region })
    }
  ]...)

  # Workers and sweepers are called by the invoker alone, users' functions by whom the variables name; and all of them by
  # the release that tries them, to which workers and sweepers say no themselves.
  callers = merge(
    { for key, service in local.services : "${key}/invoker" => { service = key, member = "serviceAccount:${var.invoker}" }
      if contains(var.internal, service.name)
    },
    { for key in keys(local.services) : "${key}/release" => { service = key, member = var.releaser } },
    merge([
      for key, service in local.services : {
        for member in var.invokers : "${key}/${member}" => { service = key, member = member }
      } if service.called_by == "users"
    ]...),
    { for key, service in local.services : "${key}/monitoring" => { service = key, member = var.monitoring_agent }
      if service.name == var.watched && var.monitoring_agent != null
    },
  )

  # Cloud Tasks and Cloud Scheduler count as internal.
  ingress = {
    true  = var.restrict_ingress ? "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER" : "INGRESS_TRAFFIC_ALL"
    false = var.restrict_ingress ? "INGRESS_TRAFFIC_INTERNAL_ONLY" : "INGRESS_TRAFFIC_ALL"
  }

  probed_over_http = [for name, function in var.functions : name if length(setintersection(function.paths, ["/health", "/*"])) > 0]
}

resource "google_cloud_run_v2_service" "this" {
  for_each = local.services

  project             = var.project
  location            = each.value.region
  name                = "${var.prefix}-${each.value.name}"
  description         = "GoAgents: the function ${each.value.name}"
  ingress             = local.ingress[each.value.called_by == "users"]
  deletion_protection = var.deletion_protection
  custom_audiences    = each.value.called_by == "users" ? var.audiences : []
  labels              = merge(var.labels, { goagents-function = each.value.name })

  template {
    service_account                  = var.accounts[each.value.name]
    timeout                          = "${each.value.timeout}s"
    max_instance_request_concurrency = each.value.concurrency
    labels                           = merge(var.labels, { goagents-function = each.value.name })

    scaling {
      min_instance_count = lookup(var.min_instances, each.value.name, 0)
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      ports {
        container_port = 8080
      }

      # The CPU is there while a request is open: `server.background` is off on Cloud Run, and what a run still has to do
      # after its request is handed to the worker.
      resources {
        limits            = { cpu = each.value.cpu, memory = each.value.memory }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = merge(var.own_environment, var.environment, {
          FUNCTION_TARGET  = each.value.name
          FUNCTION_SOURCE  = "functions/${each.value.name}/main.py"
          GOAGENTS_TIMEOUT = "${min(each.value.timeout, var.request_timeout)}s"
        })

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = each.value.models ? var.secrets : {}

        content {
          name = env.key

          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 60

        dynamic "http_get" {
          for_each = contains(local.probed_over_http, each.value.name) ? [1] : []

          content {
            path = "/health"
            port = 8080
          }
        }

        # The others answer /health with 404, which a probe does not take.
        dynamic "tcp_socket" {
          for_each = contains(local.probed_over_http, each.value.name) ? [] : [1]

          content {
            port = 8080
          }
        }
      }
    }
  }

  # Releases are the pipeline's (cloudbuild.yaml): it deploys an image, tries it, then moves the traffic. Terraform makes
  # the service, and keeps all the rest as it stands here. A revision's name in the template (`gcloud run deploy --tag`) is
  # not ignored: sent again with anything else changed, it is refused, as there is a revision of this name.
  lifecycle {
    ignore_changes = [
      client,
      client_version,
      template[0].annotations,                        # gcloud's: client.knative.dev/user-image
      template[0].labels["client.knative.dev/nonce"], # and this, with which it asks for a new revision
      template[0].containers[0].image,
      traffic,
    ]
  }
}

resource "google_cloud_run_v2_service_iam_member" "caller" {
  for_each = local.callers

  project  = var.project
  location = google_cloud_run_v2_service.this[each.value.service].location
  name     = google_cloud_run_v2_service.this[each.value.service].name
  role     = "roles/run.invoker"
  member   = each.value.member
}
