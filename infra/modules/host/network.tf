# Clients reach the load balancer, the load balancer reaches the tasks, and nothing else reaches either.

resource "aws_security_group" "load_balancer" {
  name        = "${local.id}-lb"
  description = "Load balancer of the Git host ${var.region.name}"
  vpc_id      = var.network.vpc_id
  tags        = var.tags
}

resource "aws_security_group" "task" {
  name        = local.id
  description = "Tasks of the Git host ${var.region.name}"
  vpc_id      = var.network.vpc_id
  tags        = var.tags
}

resource "aws_security_group_rule" "clients" {
  for_each          = local.ports
  type              = "ingress"
  description       = "${each.key} from clients"
  security_group_id = aws_security_group.load_balancer.id
  protocol          = "tcp"
  from_port         = each.value.clients
  to_port           = each.value.clients
  cidr_blocks       = var.client_cidrs
}

resource "aws_security_group_rule" "to_task" {
  for_each                 = local.ports
  type                     = "egress"
  description              = "To tasks"
  security_group_id        = aws_security_group.load_balancer.id
  protocol                 = "tcp"
  from_port                = each.value.task
  to_port                  = each.value.task
  source_security_group_id = aws_security_group.task.id
}

# Holds for clients' own addresses, too, as they come through the load balancer.
resource "aws_security_group_rule" "from_load_balancer" {
  for_each                 = local.ports
  type                     = "ingress"
  description              = "From the load balancer"
  security_group_id        = aws_security_group.task.id
  protocol                 = "tcp"
  from_port                = each.value.task
  to_port                  = each.value.task
  source_security_group_id = aws_security_group.load_balancer.id
}

resource "aws_security_group_rule" "out" {
  for_each          = toset([for port in var.egress_ports : tostring(port)])
  type              = "egress"
  description       = "To AWS services, other hosts and hooks"
  security_group_id = aws_security_group.task.id
  protocol          = "tcp"
  from_port         = tonumber(each.key)
  to_port           = tonumber(each.key)
  cidr_blocks       = ["0.0.0.0/0"]
}
