# A database that gcloud restored is taken in, served, and at last the only one: no step makes one anew that is there.
# What is imported here is made by the mock, once; the examples' import is planned by `python -m tests.ci.terraform`.
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

run "before" {
  assert {
    condition     = output.store == "firestore://my-project/(default)" && keys(module.firestore) == ["(default)"]
    error_message = output.store
  }
}

# To look at: nobody is served by it yet, and the functions may use it as soon as they are.
run "taken_in" {
  variables {
    restored_databases = { goagents-restored = jsonencode([{ name = "projects/my-project/databases/goagents-restored/collectionGroups/runs/indexes/CICAg", queryScope = "COLLECTION", fields = [] }]) }
  }

  assert {
    condition     = output.store == run.before.store && output.databases["(default)"] == run.before.databases["(default)"]
    error_message = "It serves already, or the one that serves was made anew."
  }

  assert {
    condition     = toset(module.identities.databases) == toset(["gateway/(default)", "gateway/goagents-restored"])
    error_message = jsonencode(module.identities.databases)
  }
}

run "served" {
  variables {
    restored_databases = { goagents-restored = jsonencode([{ name = "projects/my-project/databases/goagents-restored/collectionGroups/runs/indexes/CICAg", queryScope = "COLLECTION", fields = [] }]) }
    served_database    = "goagents-restored"
  }

  assert {
    condition     = output.store == "firestore://my-project/goagents-restored" && output.databases == run.taken_in.databases
    error_message = "It does not serve, or one of the two was made anew."
  }
}

# Once the old one is left to gcloud: forgotten, and kept.
run "the_only_one" {
  variables {
    database = "goagents-restored"
  }

  assert {
    condition     = output.store == run.served.store && output.databases == { goagents-restored = run.taken_in.databases["goagents-restored"] }
    error_message = "It does not serve, or was made anew."
  }
}
