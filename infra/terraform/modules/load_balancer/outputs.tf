output "address" {
  description = "The IP address that the domain's A record must have."
  value       = google_compute_global_address.this.address
}

output "routes" {
  description = "What is asked first comes first: the path, and the function that serves it."
  value       = concat(local.ordered, [{ function = local.default, path = "/*", rank = 3 }])
}
