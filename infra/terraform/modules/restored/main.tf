# What databases that gcloud restored have already, for Terraform to import: themselves and their composite indexes, by the
# keys of modules/firestore. Resources make none of it, and are not asked: what is imported must not depend on them.
locals {
  wanted = [
    for index in jsondecode(file("${path.module}/../firestore/indexes.json")).indexes :
    join("-", concat([index.collection], [for field in index.fields : "${field.field}.${lower(field.order)}"]))
  ]

  # Firestore lists the document's name as the last field of each index.
  listed = merge([
    for database, listing in var.databases : {
      for index in jsondecode(listing) : index.name => {
        database = database
        index = join("-", concat([split("/", index.name)[5]], [
          for field in index.fields : "${field.fieldPath}.${lower(field.order)}" if field.fieldPath != "__name__"
        ]))
      } if index.queryScope == "COLLECTION" && alltrue([for field in index.fields : can(field.order)])
    }
  ]...)
}
