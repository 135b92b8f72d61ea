output "services" {
  description = "The services' names by region and function."
  value       = { for key, service in google_cloud_run_v2_service.this : key => service.name }
}

output "callers" {
  description = "Who may call which service."
  value       = { for key, caller in google_cloud_run_v2_service_iam_member.caller : key => caller.member }
}

output "ingress" {
  description = "From where each service is reached."
  value       = { for key, service in google_cloud_run_v2_service.this : key => service.ingress }
}

output "environment" {
  description = "The variables of each service, without those of secrets."
  value = {
    for key, service in google_cloud_run_v2_service.this :
    key => { for each in service.template[0].containers[0].env : each.name => each.value if length(each.value_source) == 0 }
  }
}
