//! The tests of the service, over real HTTP: one file per file of `src/routes`, and some for what
//! concerns every call.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail")]

mod app;
mod cluster;
mod cross_origin;
mod embedded;
mod errors;
mod health;
mod login;
mod logout;
mod me;
mod openapi;
mod serve;
mod session;
mod user_command;
mod users;

use app::{Answer, Client, TestApp};
