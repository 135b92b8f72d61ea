output "image" {
  description = "The image that has to be there before the services can be made."
  value       = module.goagents.image
}

output "address" {
  description = "The A record of the domain."
  value       = module.goagents.address
}

output "release_commands" {
  description = "What to type, in the repository, to release it by the pipeline."
  value       = module.goagents.release_commands
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

output "store" {
  description = "The database that is worked with."
  value       = module.goagents.store
}
