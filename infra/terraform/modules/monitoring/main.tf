resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.emails)

  project      = var.project
  display_name = "GoAgents: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  user_labels  = var.labels
}

resource "google_monitoring_uptime_check_config" "health" {
  project            = var.project
  display_name       = "GoAgents: ${var.host}"
  period             = "60s"
  timeout            = "10s"
  log_check_failures = true
  user_labels        = var.labels

  http_check {
    path           = "/ready"
    port           = 443
    use_ssl        = true
    validate_ssl   = true
    request_method = "GET"

    accepted_response_status_codes {
      status_value = 200
    }

    dynamic "service_agent_authentication" {
      for_each = var.with_token ? [1] : []

      content {
        type = "OIDC_TOKEN"
      }
    }
  }

  monitored_resource {
    type   = "uptime_url"
    labels = { project_id = var.project, host = var.host }
  }

  # A check has one host for its life.
  lifecycle {
    create_before_destroy = true
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  project               = var.project
  display_name          = each.key
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = var.labels

  dynamic "conditions" {
    for_each = each.value.conditions

    content {
      display_name = conditions.value.name

      condition_threshold {
        filter             = conditions.value.filter
        denominator_filter = conditions.value.of
        comparison         = "COMPARISON_GT"
        threshold_value    = conditions.value.above
        duration           = conditions.value.lasting

        aggregations {
          alignment_period     = conditions.value.per
          per_series_aligner   = conditions.value.aligner
          cross_series_reducer = conditions.value.reducer
          group_by_fields      = conditions.value.group_by
        }

        dynamic "denominator_aggregations" {
          for_each = conditions.value.of == null ? [] : [1]

          content {
            alignment_period     = conditions.value.per
            per_series_aligner   = conditions.value.aligner
            cross_series_reducer = conditions.value.reducer
            group_by_fields      = conditions.value.group_by
          }
        }

        trigger {
          count = 1
        }
      }
    }
  }

  documentation {
    subject   = each.key
    mime_type = "text/markdown"
    content   = "${each.value.text}\n\nWhat to do: docs/operations.md#${local.anchors[each.key]}"
  }

  alert_strategy {
    auto_close = "86400s"
  }
}

locals {
  channels = [for channel in google_monitoring_notification_channel.email : channel.name]
  # GoAgentsRunsStuck: goagents-runs-stuck
  anchors = {
    for name in keys(local.alerts) :
    name => lower(replace(replace(name, "GoAgents", "goagents"), "/([a-z])([A-Z])/", "$1-$2"))
  }
}
