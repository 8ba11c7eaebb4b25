# Everyday recipes; `just` lists them. Each is a plain command that works without just, too.

_list:
    @just --list

# Format, lint, test: what CI runs.
ci:
    bash .ci/run

# The tests that always run.
test:
    cargo test

# The slow ones, too: big packs, a million refs, many seeds.
test-slow:
    cargo test --release -- --include-ignored

# Show the whole of it in a temporary folder.
demo:
    cargo run --release -- demo

# gitferry beside git, on any bare repository.
bench repo:
    cargo bench --bench side_by_side -- --repo {{repo}}

# Format and lint.
tidy:
    cargo fmt
    cargo clippy --all-targets -- -D warnings
