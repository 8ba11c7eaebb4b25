# The cluster of hosts and workers, and the security group of workers.

resource "aws_ecs_cluster" "this" {
  name = var.name
  tags = var.tags

  setting {
    name  = "containerInsights"
    value = var.container_insights
  }
}

# A worker listens for health checks of its own container alone.
resource "aws_security_group" "worker" {
  name        = "${var.name}-worker"
  description = "Workers of gitferry: out by HTTPS, nothing in"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

resource "aws_security_group_rule" "worker" {
  type              = "egress"
  description       = "HTTPS to AWS services and to hosts"
  security_group_id = aws_security_group.worker.id
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_blocks       = ["0.0.0.0/0"]
}
