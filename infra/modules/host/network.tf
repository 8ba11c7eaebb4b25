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
  type              = "ingress"
  description       = "HTTPS from clients"
  security_group_id = aws_security_group.load_balancer.id
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_blocks       = var.client_cidrs
}

resource "aws_security_group_rule" "to_task" {
  type                     = "egress"
  description              = "To tasks"
  security_group_id        = aws_security_group.load_balancer.id
  protocol                 = "tcp"
  from_port                = local.port
  to_port                  = local.port
  source_security_group_id = aws_security_group.task.id
}

# Holds for clients' own addresses, too, as they come through the load balancer.
resource "aws_security_group_rule" "from_load_balancer" {
  type                     = "ingress"
  description              = "From the load balancer"
  security_group_id        = aws_security_group.task.id
  protocol                 = "tcp"
  from_port                = local.port
  to_port                  = local.port
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
