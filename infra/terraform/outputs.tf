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

output "functions" {
  description = "What the pipeline releases: its substitution _FUNCTIONS."
  value       = join(",", keys(local.functions))
}

output "routes" {
  description = "Which function serves which path, the first that fits; null without a load balancer."
  value       = one(module.load_balancer[*].routes)
}

output "callers" {
  description = "Who may call which service."
  value       = module.functions.callers
}

output "indexes" {
  description = "The composite indexes."
  value       = module.firestore.indexes
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
