output "image" {
  description = "The image that has to be there before the service can be made."
  value       = module.goagents.image
}

output "functions" {
  description = "What the pipeline releases: its substitution _FUNCTIONS."
  value       = module.goagents.functions
}

output "url" {
  description = "Where it is."
  value       = module.goagents.url
}

output "first_commands" {
  description = "What to type once it stands."
  value       = module.goagents.first_commands
}
