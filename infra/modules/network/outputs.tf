output "network" {
  description = "Place of a host's tasks and of its load balancer, for the module `host`."
  value = {
    cluster_arn           = aws_ecs_cluster.this.arn
    vpc_id                = aws_vpc.this.id
    subnets               = local.subnets
    load_balancer_subnets = aws_subnet.public[*].id
    security_groups       = [aws_security_group.worker.id]
    assign_public_ip      = !local.nat
  }
  # Tasks that start before the routes are there find no service.
  depends_on = [aws_route.internet, aws_route.nat, aws_route_table_association.public, aws_route_table_association.private, aws_vpc_endpoint.gateway]
}
