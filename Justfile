# Everyday recipes; `just` lists them. Each is a plain command that works without just, too.

_list:
    @just --list

# Format, lint, test: what CI runs.
ci:
    bash .ci/run

# The tests that always run, and before them what they need beside Rust.
test:
    tests/run

# The slow ones, too: big packs, a million refs, many seeds.
test-slow:
    tests/run --release -- --include-ignored

# Every night: what is slow, apart from what is fast.
nightly:
    tests/run --release -- --ignored

# Git's server and ours beside each other, over a thousand random histories.
test-seeds:
    cargo test --release --test git -- --ignored many_seeds

# Memory and times of an account with 10,000 users and 1,000 policies.
test-account-scale:
    cargo test --release -p gitferry-iam scale -- --ignored --nocapture

# Time from the revocation of a credential to the first refusal, in both regions.
measure-revocation:
    cargo test --release --test host revocation -- --ignored --nocapture

# A Git host for each of two regions, and a worker between them.
up:
    cargo run --release -- up

# Two regions, a host in each, and a worker, in containers on LocalStack.
compose:
    docker compose -f docker/compose.yaml up --build

# The tests that use AWS, on LocalStack instead of the emulator that they start by themselves.
localstack:
    docker compose -f docker/compose.yaml up --detach --wait localstack
    GITFERRY_TEST_AWS_ENDPOINT=http://127.0.0.1:4566 cargo test --test stores --test links --test infra
    docker compose -f docker/compose.yaml down

# Show replication alone in a temporary folder.
demo:
    cargo run --release -- demo

# gitferry beside git, on any bare repository.
bench repo:
    cargo bench --bench side_by_side -- --repo {{repo}}

# The host beside git http-backend, on any bare repository.
bench-host repo:
    cargo bench --bench host -- --repo {{repo}}

# A link between two Git servers beside git clone, fetch and push, on any bare repository.
bench-passthrough repo:
    cargo bench --bench passthrough -- --repo {{repo}}

# Replication on AWS, against the emulator: requests, first sync of a bare repository, a backlog.
bench-aws repo:
    cargo bench --bench aws -- --repo {{repo}}

# Format and lint.
tidy:
    cargo fmt
    cargo clippy --all-targets -- -D warnings
