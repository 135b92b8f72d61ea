# The gateway alone, at its own address.
mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
}

variables {
  project      = "my-project"
  regions      = ["europe-west1"]
  gateway_only = true
  image_tag    = "0.1.0"
}

run "the_gateway_alone" {
  command = plan

  assert {
    condition     = output.services == { "europe-west1/gateway" = "goagents-gateway" }
    error_message = "The services are ${join(", ", values(output.services))}."
  }

  assert {
    condition     = output.url == "https://goagents-gateway-123456789012.europe-west1.run.app" && length(module.load_balancer) == 0
    error_message = "The URL is ${output.url}."
  }

  assert {
    condition     = toset(keys(output.callers)) == toset(["europe-west1/gateway/invoker", "europe-west1/gateway/monitoring", "europe-west1/gateway/release"])
    error_message = "Who may call: ${join(", ", keys(output.callers))}."
  }
}

run "everybody_if_asked" {
  command = plan

  variables {
    allow_unauthenticated = true
    config                = "infra/gcp/keys.yaml"
  }

  assert {
    condition     = contains(keys(output.callers), "europe-west1/gateway/allUsers")
    error_message = "Who may call: ${join(", ", keys(output.callers))}."
  }
}

run "where_tool_functions_are" {
  command = plan

  variables {
    environment = { ORDERS_URL = "https://orders.example.com" }
  }

  assert {
    condition     = module.functions.environment["europe-west1/gateway"]["ORDERS_URL"] == "https://orders.example.com"
    error_message = "The gateway is not told."
  }
}
