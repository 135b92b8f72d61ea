# One service for each function, in one region, behind a load balancer.
mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}

variables {
  project   = "my-project"
  regions   = ["europe-west1"]
  domain    = "agents.example.com"
  image_tag = "0.1.0"
}

run "every_function_but_the_gateway" {
  command = plan

  assert {
    condition     = toset(values(output.services)) == toset([for name in keys(local.catalogue) : "goagents-${name}" if name != "gateway"])
    error_message = "The services are ${join(", ", values(output.services))}."
  }

  assert {
    condition     = output.url == "https://agents.example.com"
    error_message = "The URL is ${output.url}."
  }
}

run "nobody_is_let_in_unasked" {
  command = plan

  assert {
    condition     = !anytrue([for key in keys(output.callers) : endswith(key, "/allUsers")])
    error_message = "Everybody may call a service."
  }

  assert {
    condition     = toset([for key in keys(output.callers) : key if !endswith(key, "/release")]) == toset(["europe-west1/worker/invoker", "europe-west1/sweeper/invoker", "europe-west1/health/monitoring"])
    error_message = "Who may call: ${join(", ", keys(output.callers))}."
  }
}

run "stands_after_apply" {
  assert {
    condition     = strcontains(output.first_commands, "export GOAGENTS_SERVER=https://agents.example.com")
    error_message = output.first_commands
  }

  assert {
    condition     = length(output.indexes) > 0 && contains(keys(output.alerts), "GoAgentsRunsStuck")
    error_message = "No indexes, or no alerts."
  }

  assert {
    condition     = output.alerts["GoAgentsRunsStuck"] == "goagents-runs-stuck"
    error_message = "The section is ${output.alerts["GoAgentsRunsStuck"]}."
  }
}

run "callers_may_call_what_users_call" {
  command = plan

  variables {
    invokers = ["group:support@example.com"]
  }

  assert {
    condition = alltrue([
      for name, function in local.catalogue :
      contains(keys(output.callers), "europe-west1/${name}/group:support@example.com") == (function.called_by == "users") if name != "gateway"
    ])
    error_message = "Who may call: ${join(", ", keys(output.callers))}."
  }
}

run "two_regions" {
  command = plan

  variables {
    regions = ["europe-west1", "us-central1"]
  }

  assert {
    condition     = length(output.services) == 2 * (length(local.catalogue) - 1)
    error_message = "The services are ${join(", ", keys(output.services))}."
  }

  # Each is released to by a build of its own, with the image of the one repository there is, and where that is: Google lets
  # a new project build in few regions.
  assert {
    condition     = alltrue([for command in split("\n", output.release_commands) : strcontains(command, " --region=europe-west1 ")])
    error_message = output.release_commands
  }

  assert {
    condition     = length(split("\n", output.release_commands)) == 2 && strcontains(split("\n", output.release_commands)[1], "_IMAGE=europe-west1-docker.pkg.dev/$${PROJECT_ID}/$${_REPOSITORY}/goagents:$${BUILD_ID};") && strcontains(output.release_commands, "_REGION=us-central1;")
    error_message = output.release_commands
  }

  assert {
    condition     = startswith(local.urls["worker"], "https://goagents-worker-123456789012.europe-west1.")
    error_message = "The worker is ${local.urls["worker"]}."
  }
}

run "with_a_budget" {
  command = plan

  variables {
    billing_account = "012345-6789AB-CDEF01"
    alert_emails    = ["oncall@example.com"]
  }

  assert {
    condition     = length(module.budget) == 1 && length(module.monitoring.channels) == 1
    error_message = "There is no budget, or nobody is told."
  }
}

run "reached_through_the_load_balancer_only" {
  command = plan

  variables {
    restrict_ingress = true
  }

  assert {
    condition = alltrue([
      for key, ingress in module.functions.ingress :
      ingress == (endswith(key, "/worker") || endswith(key, "/sweeper") ? "INGRESS_TRAFFIC_INTERNAL_ONLY" : "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER")
    ])
    error_message = jsonencode(module.functions.ingress)
  }
}
