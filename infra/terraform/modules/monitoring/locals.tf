# The alerts. Those that Prometheus has too (infra/compose/prometheus/rules.yaml) have the same names and thresholds:
# there is one section for both in docs/operations.md.
locals {
  service   = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = starts_with(\"${var.prefix}-\")"
  requests  = "${local.service} AND metric.type = \"run.googleapis.com/request_count\""
  log       = "resource.type = \"cloud_run_revision\" AND metric.type ="
  by_name   = ["resource.label.service_name"]
  quick     = join(",", [for name in var.quick : "\"${var.prefix}-${name}\""])
  five_xx   = "${local.requests} AND metric.labels.response_code_class = \"5xx\""
  metric    = { for key, metric in google_logging_metric.this : key => "logging.googleapis.com/user/${metric.name}" }
  uptime_id = google_monitoring_uptime_check_config.health.uptime_check_id

  alerts = merge({
    GoAgentsDown = {
      severity = "CRITICAL"
      text     = "/ready of the function ${var.watched} is not answered with 200, seen from two places or more."
      conditions = [{
        name     = "the uptime check fails"
        filter   = "resource.type = \"uptime_url\" AND metric.type = \"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id = \"${local.uptime_id}\""
        per      = "1200s"
        aligner  = "ALIGN_NEXT_OLDER"
        reducer  = "REDUCE_COUNT_FALSE"
        group_by = ["resource.label.host"]
        above    = 1
        lasting  = "120s"
        of       = null
      }]
    }

    GoAgentsErrorRatio = {
      severity = "CRITICAL"
      text     = "More than 5 % of a function's requests are answered 5xx: the store, a provider, or a defect. The log has the code of each error."
      conditions = [{
        name     = "5xx of all requests"
        filter   = local.five_xx
        per      = "300s"
        aligner  = "ALIGN_RATE"
        reducer  = "REDUCE_SUM"
        group_by = local.by_name
        above    = 0.05
        lasting  = "600s"
        of       = local.requests
      }]
    }

    GoAgentsUnexpectedErrors = {
      severity = "WARNING"
      text     = "A defect: an error that nobody expected. Its traceback is in the log, and in Error Reporting."
      conditions = [{
        name     = "errors that nobody expected"
        filter   = "${local.log} \"${local.metric["unexpected"]}\""
        per      = "900s"
        aligner  = "ALIGN_DELTA"
        reducer  = "REDUCE_SUM"
        group_by = local.by_name
        above    = 0
        lasting  = "0s"
        of       = null
      }]
    }

    GoAgentsRunsFailing = {
      severity = "WARNING"
      text     = "More than 20 % of an agent's runs fail."
      conditions = [{
        name     = "failed of all runs"
        filter   = "${local.log} \"${local.metric["runs"]}\" AND metric.labels.status = \"failed\""
        per      = "600s"
        aligner  = "ALIGN_RATE"
        reducer  = "REDUCE_SUM"
        group_by = ["metric.label.cluster", "metric.label.agent"]
        above    = 0.2
        lasting  = "600s"
        of       = "${local.log} \"${local.metric["runs"]}\""
      }]
    }

    GoAgentsRunsStuck = {
      severity = "CRITICAL"
      text     = "Runs are not gone on with: the sweeper fails, or it finds runs that were left behind minute after minute, or the queue does not get rid of its tasks."
      conditions = [
        {
          name     = "the sweeper fails"
          filter   = "resource.type = \"cloud_scheduler_job\" AND metric.type = \"${local.metric["sweeps_failed"]}\""
          per      = "600s"
          aligner  = "ALIGN_DELTA"
          reducer  = "REDUCE_SUM"
          group_by = []
          above    = 4
          lasting  = "0s"
          of       = null
        },
        {
          name     = "sweeps find something again and again"
          filter   = "${local.log} \"${local.metric["sweeps_found"]}\""
          per      = "900s"
          aligner  = "ALIGN_DELTA"
          reducer  = "REDUCE_SUM"
          group_by = []
          above    = 10
          lasting  = "0s"
          of       = null
        },
        {
          name     = "the queue is long"
          filter   = "resource.type = \"cloud_tasks_queue\" AND metric.type = \"cloudtasks.googleapis.com/queue/depth\" AND resource.labels.queue_id = \"${var.queue}\""
          per      = "60s"
          aligner  = "ALIGN_MEAN"
          reducer  = "REDUCE_SUM"
          group_by = []
          above    = var.longest_queue
          lasting  = "600s"
          of       = null
        },
      ]
    }

    GoAgentsFirstTokenSlow = {
      severity = "WARNING"
      text     = "The first token of a model takes longer than 15 s, for 5 % of the calls or more."
      conditions = [{
        name     = "time to the first token, 95th percentile"
        filter   = "${local.log} \"${local.metric["first_token"]}\""
        per      = "600s"
        aligner  = "ALIGN_DELTA"
        reducer  = "REDUCE_PERCENTILE_95"
        group_by = ["metric.label.provider", "metric.label.model"]
        above    = 15
        lasting  = "900s"
        of       = null
      }]
    }
  }, { for name, alert in local.slow : name => alert if length(var.quick) > 0 })

  # Those that wait for a model take as long as the model does: see the first token.
  slow = {
    GoAgentsRequestsSlow = {
      severity = "WARNING"
      text     = "Functions that call no model take longer than 2 s, for 5 % of the requests or more."
      conditions = [{
        name     = "latency, 95th percentile"
        filter   = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = one_of(${local.quick}) AND metric.type = \"run.googleapis.com/request_latencies\""
        per      = "300s"
        aligner  = "ALIGN_DELTA"
        reducer  = "REDUCE_PERCENTILE_95"
        group_by = local.by_name
        above    = 2000
        lasting  = "600s"
        of       = null
      }]
    }
  }
}
