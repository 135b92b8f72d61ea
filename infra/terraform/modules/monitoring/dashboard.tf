locals {
  seconds = "60s"

  charts = [
    { title = "Requests by function", filter = local.requests, aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = local.by_name, unit = "requests/s" },
    { title = "Answered 5xx, by function", filter = local.five_xx, aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = local.by_name, unit = "requests/s" },
    { title = "Latency by function, 95th percentile", filter = "${local.service} AND metric.type = \"run.googleapis.com/request_latencies\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_PERCENTILE_95", by = local.by_name, unit = "ms" },
    { title = "Instances by function", filter = "${local.service} AND metric.type = \"run.googleapis.com/container/instance_count\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = local.by_name, unit = "instances" },
    { title = "Runs by their end", filter = "${local.log} \"${local.metric["runs"]}\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["metric.label.status"], unit = "runs/s" },
    { title = "First token by model, 95th percentile", filter = "${local.log} \"${local.metric["first_token"]}\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_PERCENTILE_95", by = ["metric.label.model"], unit = "s" },
    { title = "Tasks in the queue", filter = "resource.type = \"cloud_tasks_queue\" AND metric.type = \"cloudtasks.googleapis.com/queue/depth\" AND resource.labels.queue_id = \"${var.queue}\"", aligner = "ALIGN_MEAN", reducer = "REDUCE_SUM", by = [], unit = "tasks" },
    { title = "Sweeps that found something", filter = "${local.log} \"${local.metric["sweeps_found"]}\"", aligner = "ALIGN_DELTA", reducer = "REDUCE_SUM", by = [], unit = "sweeps" },
    { title = "Documents read", filter = "resource.type = \"firestore_instance\" AND metric.type = \"firestore.googleapis.com/document/read_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["metric.label.type"], unit = "documents/s" },
    { title = "Documents written", filter = "resource.type = \"firestore_instance\" AND metric.type = \"firestore.googleapis.com/document/write_count\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["metric.label.op"], unit = "documents/s" },
  ]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project

  dashboard_json = jsonencode({
    displayName = "GoAgents (${var.prefix})"
    labels      = { for key, value in var.labels : key => "" }
    mosaicLayout = {
      columns = 48
      tiles = [
        for index, chart in local.charts : {
          xPos   = 24 * (index % 2)
          yPos   = 16 * floor(index / 2)
          width  = 24
          height = 16
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType = "LINE"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.filter
                    aggregation = {
                      alignmentPeriod    = local.seconds
                      perSeriesAligner   = chart.aligner
                      crossSeriesReducer = chart.reducer
                      groupByFields      = chart.by
                    }
                  }
                }
              }]
              yAxis = { label = chart.unit, scale = "LINEAR" }
            }
          }
        }
      ]
    }
  })
}
