variable "project" {
  description = "The project's id."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: must be a project's id, such as my-project (not its name or number)."
  }
}

variable "regions" {
  description = "Regions of the functions. The queue and the scheduler are in the first; with more than one, a domain is needed."
  type        = list(string)

  validation {
    condition     = length(var.regions) > 0 && length(distinct(var.regions)) == length(var.regions) && alltrue([for region in var.regions : can(regex("^[a-z]+-[a-z]+[0-9]+$", region))])
    error_message = "regions: must be regions such as europe-west1, at least one, and each once."
  }

  validation {
    condition     = length(var.regions) == 1 || var.domain != null
    error_message = "regions: with more than one, set domain: a load balancer has to be in front."
  }
}

variable "domain" {
  description = "Domain of the load balancer; its A record is made by you, see the outputs. null: there is no load balancer."
  type        = string
  default     = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain: must be a domain such as agents.example.com, without https:// and path."
  }

  validation {
    condition     = var.domain != null || var.gateway_only
    error_message = "domain: one service for each function needs a load balancer that maps the paths: set domain, or gateway_only = true."
  }
}

variable "gateway_only" {
  description = "Deploy the function gateway alone, which serves everything, instead of one service for each function."
  type        = bool
  default     = false
}

variable "prefix" {
  description = "What all names begin with."
  type        = string
  default     = "goagents"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}[a-z0-9]$", var.prefix))
    error_message = "prefix: must be 3 to 21 lower-case letters, digits and hyphens, such as goagents."
  }
}

variable "image_tag" {
  description = "Tag of the image that services are made with. Later ones are deployed by the pipeline, and left as they are here."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag: must be a tag such as 0.1.0, and not latest: what moves makes one service of another image than the next."
  }
}

variable "config" {
  description = "The server's configuration, a path in the image."
  type        = string
  default     = "infra/gcp/config.yaml"
}

variable "log_level" {
  description = "What the functions log. The alerts on runs need info."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["debug", "info"], var.log_level)
    error_message = "log_level: must be info or debug; above, the metrics of runs have nothing to count."
  }
}

variable "environment" {
  description = "Further variables of every function, such as where tool functions are: ORDERS_URL. No secrets: those are in secrets."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Z_][A-Z0-9_]*$", name)) && !can(regex(local.reserved, name)) && !contains(keys(var.secrets), name)])
    error_message = "environment: must be variables such as ORDERS_URL, and none that the deployment or secrets set."
  }
}

variable "secrets" {
  description = "Secrets by the variable they are bound to, for functions that call models or tools. Name the providers you use, and what tools need."
  type        = map(string)
  default = {
    ANTHROPIC_API_KEY = "anthropic-api-key"
    OPENAI_API_KEY    = "openai-api-key"
    GOOGLE_API_KEY    = "google-api-key"
  }

  validation {
    condition     = alltrue([for variable, secret in var.secrets : can(regex("^[A-Z_][A-Z0-9_]*$", variable)) && can(regex("^[A-Za-z0-9_-]{1,255}$", secret))])
    error_message = "secrets: must be VARIABLE = \"secret-id\"; values are no part of it, add them by gcloud secrets versions add."
  }

  validation {
    condition     = !anytrue([for variable in keys(var.secrets) : can(regex(local.reserved, variable))])
    error_message = "secrets: must be none of the variables that the deployment or Cloud Run sets, such as GOAGENTS_STORE and PORT."
  }
}

variable "invokers" {
  description = "Who may call what users call: members such as user:ann@example.com, group:…, serviceAccount:…, domain:…."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.invokers : can(regex("^(user|group|serviceAccount|domain):[^\\s,@:]+(@[^\\s,@:]+)?$", member))])
    error_message = "invokers: must be members such as user:ann@example.com, group:, serviceAccount: or domain:; for everybody see allow_unauthenticated."
  }
}

variable "allow_unauthenticated" {
  description = "Let everybody reach what users call. Only with a configuration of your own whose auth.mode is api_key."
  type        = bool
  default     = false

  validation {
    condition     = !var.allow_unauthenticated || var.config != "infra/gcp/config.yaml"
    error_message = "allow_unauthenticated: infra/gcp/config.yaml trusts who Cloud Run let in, so nobody would be checked: name a config whose auth.mode is api_key."
  }
}

variable "restrict_ingress" {
  description = "Let requests in through the load balancer, the queue and the scheduler only. IAM guards either way; the pipeline's smoke test, which asks each function at its own address, then has to run in this project's network."
  type        = bool
  default     = false

  validation {
    condition     = !var.restrict_ingress || var.domain != null
    error_message = "restrict_ingress: needs a domain; without a load balancer nobody would get through."
  }
}

variable "database" {
  description = "Id of the Firestore database that is made. Another one later makes another, empty one: for a backup see restored_databases."
  type        = string
  default     = "(default)"

  validation {
    condition     = can(regex("^(\\(default\\)|[a-z][a-z0-9-]{2,61}[a-z0-9])$", var.database))
    error_message = "database: must be a Firestore database's id, such as (default)."
  }
}

variable "restored_databases" {
  description = "Databases that gcloud firestore databases restore made, each with what gcloud firestore indexes composite list --format=json says of it."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for database, listing in var.restored_databases : database != var.database && can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", database))
    ])
    error_message = "restored_databases: must be ids such as goagents-restored, and another one than database."
  }

  validation {
    condition = alltrue([
      for database, listing in var.restored_databases :
      try(alltrue([for index in jsondecode(listing) : startswith(index.name, "projects/${var.project}/databases/${database}/collectionGroups/")]), false)
    ])
    error_message = "restored_databases: each must come with its own indexes, as gcloud firestore indexes composite list --database=… --format=json lists them."
  }
}

variable "served_database" {
  description = "Which of the databases the functions work with. null: the one that is made."
  type        = string
  default     = null

  validation {
    condition     = var.served_database == null || contains(concat([var.database], keys(var.restored_databases)), coalesce(var.served_database, "-"))
    error_message = "served_database: must be database or one of restored_databases."
  }
}

variable "delete_data" {
  description = "Let the databases be deleted, with all documents, by what no longer has them and by terraform destroy. Otherwise they are kept, and forgotten."
  type        = bool
  default     = false
}

variable "database_location" {
  description = "Where the database lies, for good: a region, or a multi-region such as eur3 or nam5. null: the first region."
  type        = string
  default     = null
}

variable "point_in_time_recovery" {
  description = "Keep every version of the database's last seven days."
  type        = bool
  default     = true
}

variable "daily_backups_kept" {
  description = "Days a daily backup is kept; 0: none is made."
  type        = number
  default     = 7

  validation {
    condition     = var.daily_backups_kept >= 0 && var.daily_backups_kept <= 98
    error_message = "daily_backups_kept: must be 0 to 98 days."
  }
}

variable "weekly_backups_kept" {
  description = "Weeks a weekly backup is kept; 0: none is made."
  type        = number
  default     = 8

  validation {
    condition     = var.weekly_backups_kept >= 0 && var.weekly_backups_kept <= 14
    error_message = "weekly_backups_kept: must be 0 to 14 weeks."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the services. For the databases see delete_data."
  type        = bool
  default     = true
}

variable "min_instances" {
  description = "Instances that are kept warm in each region, by function; none by default."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for name, count in var.min_instances : count >= 0 && contains(keys(local.functions), name)])
    error_message = "min_instances: must name functions that are deployed: ${join(", ", keys(local.functions))}."
  }

  validation {
    condition     = alltrue([for count in values(var.min_instances) : count <= var.max_instances])
    error_message = "min_instances: must be at most max_instances."
  }
}

variable "max_instances" {
  description = "Most instances of a function in a region. Cloud Run refuses a service whose most instances x CPU and memory are more than the region's quota: 20 CPUs and 40 GiB in a new project."
  type        = number
  default     = 10

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 1000
    error_message = "max_instances: must be 1 to 1000."
  }
}

variable "requests_per_minute" {
  description = "Most requests of one address in a minute; the load balancer answers more with 429."
  type        = number
  default     = 3000
}

variable "max_concurrent_dispatches" {
  description = "Most calls of the worker at the same time."
  type        = number
  default     = 1000
}

variable "max_dispatches_per_second" {
  description = "Most calls of the worker begun in a second."
  type        = number
  default     = 500
}

variable "longest_queue" {
  description = "Tasks in the queue above which, after ten minutes, somebody is told."
  type        = number
  default     = 100
}

variable "alert_emails" {
  description = "Who is told of alerts, and of the budget."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.alert_emails : can(regex("^[^\\s@]+@[^\\s@]+$", email))])
    error_message = "alert_emails: must be e-mail addresses."
  }
}

variable "billing_account" {
  description = "Billing account of the budget, such as 012345-6789AB-CDEF01. null: there is no budget."
  type        = string
  default     = null

  validation {
    condition     = var.billing_account == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "billing_account: must be an id such as 012345-6789AB-CDEF01."
  }
}

variable "monthly_budget" {
  description = "What a month may cost before somebody is told, in whole units of budget_currency. Nothing is turned off."
  type        = number
  default     = 100
}

variable "budget_currency" {
  description = "The billing account's currency."
  type        = string
  default     = "USD"
}

variable "labels" {
  description = "Labels of everything that takes them."
  type        = map(string)
  default     = {}
}
