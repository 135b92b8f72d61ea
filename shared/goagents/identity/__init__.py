"""Who a signed identity token belongs to: the port and its adapter."""
