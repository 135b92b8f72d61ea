# What cannot be, is refused before anything is made, by the variable's name.
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

run "everybody_where_nobody_is_checked" {
  command = plan

  variables {
    allow_unauthenticated = true
  }

  expect_failures = [var.allow_unauthenticated]
}

run "everybody_as_an_invoker" {
  command = plan

  variables {
    invokers = ["allUsers"]
  }

  expect_failures = [var.invokers]
}

run "functions_without_a_load_balancer" {
  command = plan

  variables {
    domain = null
  }

  expect_failures = [var.domain]
}

run "regions_without_a_load_balancer" {
  command = plan

  variables {
    regions      = ["europe-west1", "us-central1"]
    domain       = null
    gateway_only = true
  }

  expect_failures = [var.regions]
}

run "a_region_that_is_none" {
  command = plan

  variables {
    regions = ["europe"]
  }

  expect_failures = [var.regions]
}

run "a_tag_that_moves" {
  command = plan

  variables {
    image_tag = "latest"
  }

  expect_failures = [var.image_tag]
}

run "a_secret_with_its_value" {
  command = plan

  variables {
    secrets = { ANTHROPIC_API_KEY = "not an id" }
  }

  expect_failures = [var.secrets]
}

run "a_function_that_is_not_deployed" {
  command = plan

  variables {
    min_instances = { gateway = 1 }
  }

  expect_failures = [var.min_instances]
}

run "more_instances_than_there_may_be" {
  command = plan

  variables {
    min_instances = { chat = 11 }
  }

  expect_failures = [var.min_instances]
}

run "a_project_by_its_number" {
  command = plan

  variables {
    project = "123456789012"
  }

  expect_failures = [var.project]
}

run "a_log_without_runs" {
  command = plan

  variables {
    log_level = "error"
  }

  expect_failures = [var.log_level]
}

run "a_restored_database_without_its_indexes" {
  command = plan

  variables {
    restored_databases = { goagents-restored = "" }
  }

  expect_failures = [var.restored_databases]
}

run "the_indexes_of_another_database" {
  command = plan

  variables {
    restored_databases = { goagents-restored = "[{\"name\":\"projects/my-project/databases/(default)/collectionGroups/runs/indexes/CICAg\"}]" }
  }

  expect_failures = [var.restored_databases]
}

run "the_database_that_is_made_as_a_restored_one" {
  command = plan

  variables {
    database           = "goagents-restored"
    restored_databases = { goagents-restored = "[{\"name\":\"projects/my-project/databases/goagents-restored/collectionGroups/runs/indexes/CICAg\"}]" }
  }

  expect_failures = [var.restored_databases]
}

run "a_database_that_there_is_not" {
  command = plan

  variables {
    served_database = "goagents-restored"
  }

  expect_failures = [var.served_database]
}

run "another_store_than_the_database" {
  command = plan

  variables {
    environment = { GOAGENTS_STORE = "firestore://my-project/another" }
  }

  expect_failures = [var.environment]
}

run "a_variable_that_is_a_secret_already" {
  command = plan

  variables {
    environment = { OPENAI_API_KEY = "in the state" }
  }

  expect_failures = [var.environment]
}

run "a_secret_in_the_place_of_what_the_deployment_sets" {
  command = plan

  variables {
    secrets = { GOAGENTS_STORE = "store" }
  }

  expect_failures = [var.secrets]
}

run "a_secret_that_cloud_run_sets" {
  command = plan

  variables {
    secrets = { PORT = "port" }
  }

  expect_failures = [var.secrets]
}

run "closed_to_all_but_a_load_balancer_that_there_is_not" {
  command = plan

  variables {
    domain           = null
    gateway_only     = true
    restrict_ingress = true
  }

  expect_failures = [var.restrict_ingress]
}
