output "url" {
  description = "What GOAGENTS_SERVER is set to."
  value       = var.domain != null ? "https://${var.domain}" : lookup(local.urls, "gateway", "")
}

output "address" {
  description = "The A record of the domain; null without a load balancer."
  value       = one(module.load_balancer[*].address)
}

output "image" {
  description = "The image that has to be there before the services can be made."
  value       = local.image
}

output "services" {
  description = "The Cloud Run services by region and function."
  value       = module.functions.services
}

output "release_commands" {
  description = "What to type, in the repository, to release it by the pipeline: a command for each region."
  value       = join("\n", module.release.commands)
}

output "routes" {
  description = "Which function serves which path, the first that fits; null without a load balancer."
  value       = one(module.load_balancer[*].routes)
}

output "callers" {
  description = "Who may call which service."
  value       = module.functions.callers
}

output "store" {
  description = "The database that the functions are told of, as GOAGENTS_STORE."
  value       = local.store
}

output "databases" {
  description = "The databases, each with what no other is called, not even one of the same name."
  value       = { for name, database in module.firestore : name => database.uid }
}

output "restored" {
  description = "What there is already of databases that gcloud restored, by the addresses it is imported to: examples/prod/restored.tf."
  value       = module.restored
}

output "indexes" {
  description = "The composite indexes."
  value       = module.firestore[local.served].indexes
}

output "alerts" {
  description = "The alerts, with their sections in docs/operations.md."
  value       = module.monitoring.alerts
}

output "first_commands" {
  description = "What to type once it stands."
  value       = <<-EOT
    # ${var.domain == null ? "It has an address of its own" : "The domain's A record has to be ${one(module.load_balancer[*].address)}; its certificate follows within the hour"}.
    export GOAGENTS_SERVER=${var.domain != null ? "https://${var.domain}" : lookup(local.urls, "gateway", "")}
    export GOAGENTS_API_KEY="$(gcloud auth print-identity-token)"
    curl --header "Authorization: Bearer $GOAGENTS_API_KEY" "$GOAGENTS_SERVER/ready"
    goagents deploy --cluster cluster.yaml
    goagents status
  EOT
}
