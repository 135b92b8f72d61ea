# Metrics of what the functions write into their log (shared/goagents/telemetry/logging.py); a test holds each filter
# against lines that the code really writes.
locals {
  own_log = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=~\"^${var.prefix}-\""

  log_metrics = {
    unexpected = {
      text   = "Defects: errors that nobody expected"
      filter = "${local.own_log} AND severity>=ERROR AND jsonPayload.message=~\"^unexpected error in \""
      labels = {}
      value  = null
    }
    runs = {
      text   = "Runs that ended"
      filter = "${local.own_log} AND jsonPayload.message=~\"^run [^ ]+ of [^ ]+ (succeeded|failed|cancelled) in \""
      labels = {
        status  = "REGEXP_EXTRACT(jsonPayload.message, \"^run [^ ]+ of [^ ]+ (succeeded|failed|cancelled) in \")"
        cluster = "EXTRACT(labels.cluster)"
        agent   = "EXTRACT(labels.agent)"
      }
      value = null
    }
    first_token = {
      text   = "Seconds to the first token of a model"
      filter = "${local.own_log} AND jsonPayload.message=~\"^model \" AND labels.first_token!=\"\""
      labels = {
        provider = "EXTRACT(labels.provider)"
        model    = "EXTRACT(labels.model)"
      }
      value = "EXTRACT(labels.first_token)"
    }
    # A sweep that finds nothing is not logged.
    sweeps_found = {
      text   = "Sweeps that found runs or webhooks that were left behind"
      filter = "${local.own_log} AND labels.route=\"/sweep\" AND httpRequest.status=200"
      labels = {}
      value  = null
    }
    sweeps_failed = {
      text   = "Calls of the sweeper that failed, as Cloud Scheduler tells it"
      filter = "resource.type=\"cloud_scheduler_job\" AND resource.labels.job_id=\"${var.scheduler_job}\" AND severity>=ERROR"
      labels = {}
      value  = null
    }
  }
}

resource "google_logging_metric" "this" {
  for_each = local.log_metrics

  project         = var.project
  name            = "${var.prefix}/${each.key}"
  description     = each.value.text
  filter          = each.value.filter
  value_extractor = each.value.value

  label_extractors = each.value.labels

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = each.value.value == null ? "INT64" : "DISTRIBUTION"
    unit        = each.value.value == null ? "1" : "s"

    dynamic "labels" {
      for_each = each.value.labels

      content {
        key        = labels.key
        value_type = "STRING"
      }
    }
  }

  dynamic "bucket_options" {
    for_each = each.value.value == null ? [] : [1]

    content {
      exponential_buckets {
        num_finite_buckets = 32
        growth_factor      = 1.4
        scale              = 0.05
      }
    }
  }
}
