# One address for all functions, in all regions: a global HTTPS load balancer whose URL map is made of the paths in
# functions.json.
locals {
  endpoints = {
    for pair in setproduct(var.regions, keys(var.functions)) : "${pair[0]}/${pair[1]}" => { region = pair[0], name = pair[1] }
  }

  # The most special path first: whole paths, then those with a place in the middle, then those that are open at their
  # end, the longest before the shorter ones. `*` in the middle stands for one segment, at the end for all that follow.
  paths = flatten([
    for name, function in var.functions : [
      for path in function.paths : {
        function = name
        path     = path
        rank     = !strcontains(path, "*") ? 0 : endswith(path, "*") ? 2 : 1
      } if path != "/*"
    ]
  ])
  ordered = [
    for key in sort([for path in local.paths : format("%d %04d %s", path.rank, 1000 - length(path.path), path.path)]) :
    one([for path in local.paths : path if path.path == split(" ", key)[2]])
  ]
  catch_all = [for name, function in var.functions : name if contains(function.paths, "/*")]
  # A path that nobody serves is answered by the smallest function: 404.
  default = length(local.catch_all) > 0 ? local.catch_all[0] : "health"
}

resource "google_compute_region_network_endpoint_group" "function" {
  for_each = local.endpoints

  project               = var.project
  region                = each.value.region
  name                  = "${var.prefix}-${each.value.name}"
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = var.services[each.key]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_backend_service" "function" {
  for_each = var.functions

  project               = var.project
  name                  = "${var.prefix}-${each.key}"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  protocol              = "HTTPS"
  security_policy       = google_compute_security_policy.edge.id

  dynamic "backend" {
    for_each = toset(var.regions)

    content {
      group = google_compute_region_network_endpoint_group.function["${backend.value}/${each.key}"].id
    }
  }

  log_config {
    enable      = true
    sample_rate = var.log_sample_rate
  }

  # A region whose function fails is left alone for a while; another one serves.
  dynamic "outlier_detection" {
    for_each = length(var.regions) > 1 ? [1] : []

    content {
      consecutive_errors = 5

      interval {
        seconds = 5
      }

      base_ejection_time {
        seconds = 30
      }
    }
  }
}

resource "google_compute_security_policy" "edge" {
  # checkov:skip=CKV_GCP_73:there is no Java behind it, and what people say to an agent may hold anything
  project     = var.project
  name        = "${var.prefix}-edge"
  description = "No more requests of one address than it may send"
  type        = "CLOUD_ARMOR"

  rule {
    action      = "throttle"
    priority    = 2000
    description = "Requests of one address"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }

    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"

      rate_limit_threshold {
        count        = var.requests_per_minute
        interval_sec = 60
      }
    }
  }

  rule {
    action      = "allow"
    priority    = 2147483647
    description = "The rest"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }
  }
}

resource "google_compute_url_map" "https" {
  project         = var.project
  name            = var.prefix
  default_service = google_compute_backend_service.function[local.default].id

  host_rule {
    hosts        = [var.domain]
    path_matcher = "functions"
  }

  path_matcher {
    name            = "functions"
    default_service = google_compute_backend_service.function[local.default].id

    dynamic "route_rules" {
      for_each = local.ordered

      content {
        priority = (route_rules.key + 1) * 10
        service  = google_compute_backend_service.function[route_rules.value.function].id

        match_rules {
          full_path_match     = route_rules.value.rank == 0 ? route_rules.value.path : null
          path_template_match = route_rules.value.rank == 0 ? null : replace(route_rules.value.path, "/\\*$/", "**")
        }
      }
    }
  }
}

resource "google_compute_url_map" "redirect" {
  project = var.project
  name    = "${var.prefix}-redirect"

  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "PERMANENT_REDIRECT"
    strip_query            = false
  }
}

resource "google_compute_ssl_policy" "modern" {
  project         = var.project
  name            = var.prefix
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"
}

resource "google_compute_managed_ssl_certificate" "domain" {
  project = var.project
  # A certificate cannot be changed: another domain is another one.
  name = "${var.prefix}-${substr(sha256(var.domain), 0, 8)}"

  managed {
    domains = [var.domain]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_target_https_proxy" "this" {
  project          = var.project
  name             = var.prefix
  url_map          = google_compute_url_map.https.id
  ssl_certificates = [google_compute_managed_ssl_certificate.domain.id]
  ssl_policy       = google_compute_ssl_policy.modern.id
}

resource "google_compute_target_http_proxy" "redirect" {
  project = var.project
  name    = "${var.prefix}-redirect"
  url_map = google_compute_url_map.redirect.id
}

resource "google_compute_global_address" "this" {
  project = var.project
  name    = var.prefix
}

resource "google_compute_global_forwarding_rule" "https" {
  project               = var.project
  name                  = "${var.prefix}-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this.id
  port_range            = "443"
  target                = google_compute_target_https_proxy.this.id
  labels                = var.labels
}

resource "google_compute_global_forwarding_rule" "redirect" {
  project               = var.project
  name                  = "${var.prefix}-redirect"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.this.id
  port_range            = "80"
  target                = google_compute_target_http_proxy.redirect.id
  labels                = var.labels
}
