output "image" {
  description = "The image that has to be there before the services can be made."
  value       = module.goagents.image
}

output "address" {
  description = "The A record of the domain."
  value       = module.goagents.address
}

output "functions" {
  description = "What the pipeline releases: its substitution _FUNCTIONS."
  value       = module.goagents.functions
}

output "url" {
  description = "Where it is."
  value       = module.goagents.url
}

output "routes" {
  description = "Which function serves which path, the first that fits."
  value       = module.goagents.routes
}

output "first_commands" {
  description = "What to type once it stands."
  value       = module.goagents.first_commands
}
