# Where committed changes are announced.

resource "aws_cloudwatch_event_bus" "this" {
  count = var.bus == "default" ? 0 : 1
  name  = var.bus
  tags  = var.tags
}

locals {
  bus_of_account = join(":", [
    "arn", data.aws_partition.current.partition, "events", data.aws_region.current.region,
    data.aws_caller_identity.current.account_id, "event-bus/default",
  ])
  bus_arn = var.bus == "default" ? local.bus_of_account : aws_cloudwatch_event_bus.this[0].arn
}
