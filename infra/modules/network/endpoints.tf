# AWS services of this region, without a NAT gateway on the way.

locals {
  subnets = local.nat ? aws_subnet.private[*].id : aws_subnet.public[*].id
  service = "com.amazonaws.${data.aws_region.current.region}"
}

# Packs, layers of images from ECR, and the table: no byte of these is paid for.
resource "aws_vpc_endpoint" "gateway" {
  for_each          = toset(["s3", "dynamodb"])
  vpc_id            = aws_vpc.this.id
  service_name      = "${local.service}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = concat([aws_route_table.public.id], aws_route_table.private[*].id)
  tags              = merge(var.tags, { Name = "${var.name}-${each.key}" })
}

resource "aws_security_group" "endpoints" {
  count       = length(var.interface_endpoints) == 0 ? 0 : 1
  name        = "${var.name}-endpoints"
  description = "AWS services within the VPC ${var.name}"
  vpc_id      = aws_vpc.this.id
  tags        = local.tags
}

resource "aws_security_group_rule" "endpoints" {
  count             = length(var.interface_endpoints) == 0 ? 0 : 1
  type              = "ingress"
  description       = "HTTPS from the VPC"
  security_group_id = aws_security_group.endpoints[0].id
  protocol          = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_blocks       = [aws_vpc.this.cidr_block]
}

resource "aws_vpc_endpoint" "interface" {
  for_each            = var.interface_endpoints
  vpc_id              = aws_vpc.this.id
  service_name        = "${local.service}.${each.key}"
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = true
  subnet_ids          = local.subnets
  security_group_ids  = [aws_security_group.endpoints[0].id]
  tags                = merge(var.tags, { Name = "${var.name}-${each.key}" })
}
