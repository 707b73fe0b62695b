//! Portcullis: authentication as a JSON REST service.
//!
//! The way of a request: the layers of [`app`] → an extractor ([`auth`], [`extract`]) → a handler
//! (`routes`) → SQL ([`store`]) → JSON or [`error::Error`]. Imports run the same way.

pub mod account;
pub mod app;
pub mod audit;
pub mod auth;
mod batch;
mod body;
pub mod body_budget;
pub mod client;
pub mod command;
pub mod config;
mod cors;
pub mod credential;
mod cross_origin;
pub mod embedded;
pub mod error;
pub mod exposition;
pub mod extract;
mod forwarded;
mod host;
pub mod lookups;
pub mod mail;
pub mod metrics;
pub mod names;
pub mod one_time;
pub mod openapi;
pub mod page;
mod parameters;
pub mod password;
mod prefix;
mod private;
pub mod problem;
mod problem_examples;
pub mod rate_limit;
pub mod request_id;
mod routes;
mod schemas;
mod security_headers;
pub mod server;
pub mod session;
pub mod state;
pub mod store;
pub mod supervise;
pub mod sweep;
pub mod telemetry;
pub mod throttle;
mod timestamp;
pub mod token;
pub mod touches;
