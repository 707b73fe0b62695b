//! Rebuilds when a migration is added: `sqlx::migrate!` cannot tell by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
