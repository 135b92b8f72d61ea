output "channels" {
  description = "The notification channels' names."
  value       = local.channels
}

output "alerts" {
  description = "The alerts, with their sections in docs/operations.md."
  value       = local.anchors
}
