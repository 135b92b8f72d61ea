# A database that gcloud restored is taken in with the indexes it has, not made anew: docs/operations.md says how. One that
# is not there fails the plan, so none comes into being empty.
import {
  for_each = module.goagents.restored.databases
  to       = module.goagents.module.firestore[each.key].google_firestore_database.this
  id       = each.value
}

import {
  for_each = module.goagents.restored.indexes
  to       = module.goagents.module.firestore[each.value.database].google_firestore_index.composite[each.value.index]
  id       = each.key
}
