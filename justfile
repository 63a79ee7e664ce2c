# Every recipe is one call of cargo or of the binary; the README gives the plain forms.

# Every experiment: data, training, generation, tables, figures.
all *flags:
    cargo run --release -- all {{flags}}

# One experiment.
exp id *flags:
    cargo run --release -- run {{id}} {{flags}}

test *flags:
    cargo test {{flags}}

# Format and lints.
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

bench *flags:
    cargo bench {{flags}}
