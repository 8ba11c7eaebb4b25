# TLS on 443, ended here or by the host.
#
# Clients keep their addresses (preserve_client_ip): the host sees them as peers of its connections, so it trusts no
# proxies' headers. It does not speak the proxy protocol.

resource "aws_lb" "this" {
  name                             = local.id
  load_balancer_type               = "network"
  internal                         = var.internal
  subnets                          = var.network.load_balancer_subnets
  security_groups                  = [aws_security_group.load_balancer.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = var.deletion_protection
  tags                             = var.tags
}

resource "aws_lb_target_group" "git" {
  name                 = local.id
  vpc_id               = var.network.vpc_id
  target_type          = "ip"
  protocol             = "TCP"
  port                 = local.port
  preserve_client_ip   = true
  proxy_protocol_v2    = false
  deregistration_delay = local.deregistration_seconds
  tags                 = var.tags

  # A task is out of use after 40 seconds without readiness: its stores are gone, swapped or rolled back.
  health_check {
    protocol            = var.tls_pass_through ? "HTTPS" : "HTTP"
    path                = "/_ready"
    port                = "traffic-port"
    interval            = 10
    healthy_threshold   = 4
    unhealthy_threshold = 4
  }
}

resource "aws_lb_listener" "git" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = var.tls_pass_through ? "TCP" : "TLS"
  certificate_arn   = var.tls_pass_through ? null : local.certificate_arn
  ssl_policy        = var.tls_pass_through ? null : "ELBSecurityPolicy-TLS13-1-2-2021-06"
  # HTTP/2 first, as the host itself would have it.
  alpn_policy = var.tls_pass_through ? null : "HTTP2Preferred"
  # Longer than the host waits for a client that computes its pack. AWS fixes the timeout at 350 seconds for connections
  # whose TLS ends here. TCP keep-alive of the host restarts the timeout in both cases.
  tcp_idle_timeout_seconds = var.tls_pass_through ? 600 : null

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.git.arn
  }
}

resource "aws_lb_target_group" "ssh" {
  count                = var.ssh ? 1 : 0
  name                 = "${local.id}-ssh"
  vpc_id               = var.network.vpc_id
  target_type          = "ip"
  protocol             = "TCP"
  port                 = local.ssh_port
  preserve_client_ip   = true
  proxy_protocol_v2    = false
  deregistration_delay = local.deregistration_seconds
  tags                 = var.tags

  # A task whose stores are gone serves neither protocol.
  health_check {
    protocol            = var.tls_pass_through ? "HTTPS" : "HTTP"
    path                = "/_ready"
    port                = local.port
    interval            = 10
    healthy_threshold   = 4
    unhealthy_threshold = 4
  }
}

resource "aws_lb_listener" "ssh" {
  count                    = var.ssh ? 1 : 0
  load_balancer_arn        = aws_lb.this.arn
  port                     = 22
  protocol                 = "TCP"
  tcp_idle_timeout_seconds = 600

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.ssh[0].arn
  }
}
