//! The tests of the service, over real HTTP: one file per file of `src/routes`, and some for what
//! concerns every call.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests may fail, and print what they measure"
)]

mod app;
mod audit;
mod bodies;
mod closed_output;
mod cluster;
mod collector;
mod credentials;
mod cross_origin;
mod docs;
mod doctor;
mod email;
mod embedded;
mod errors;
mod first_admin;
mod former_usernames;
mod forward_auth;
mod hanging;
mod health;
mod host;
mod hostile;
mod import_command;
mod interest;
mod known_devices;
mod limits;
mod load;
mod login;
mod login_code;
mod logout;
mod logs;
mod lookups;
mod mail_server;
mod me;
mod me_account;
mod metrics;
mod migrations;
mod names;
mod notices;
mod openapi;
mod outage;
mod outbox;
mod own_schema;
mod ownership;
mod password;
mod password_reset;
mod prefix;
mod protection;
mod proxy;
mod races;
mod registration_privacy;
mod renewals;
mod reserve;
mod revocation;
mod secret_files;
mod secrets;
mod security_headers;
mod serve;
mod session;
mod sessions;
mod several_cookies;
mod signals;
mod smtp;
mod squatter;
mod statements;
mod stop;
mod throttle;
mod timing;
mod tokens;
mod traces;
mod user;
mod user_command;
mod users;

use app::{Answer, Client, TestApp};
