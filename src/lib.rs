//! The map.

pub mod commands;
pub mod app;
pub mod config;
pub mod server;
pub mod gateway;
pub mod audit;
pub mod cache;
pub mod policy;
pub mod identity;
pub mod upstream;
pub mod telemetry;
pub mod settings;
pub mod secret;
pub mod watched;
pub mod clock;
pub mod atlas;
